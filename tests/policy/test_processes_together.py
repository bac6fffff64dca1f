"""Several processes and one Valkey: together they admit exactly the limit, whatever happens to one of them."""

import asyncio
import contextlib
import sys

from policy.ratelimit.store import Counter, Unavailable
from policy.ratelimit.valkey import ValkeyStore
from tests.support.child import Child, answer
from tests.support.results import record, size

HITS = size("TOGETHER_HITS", 10_000)
PROCESSES = 4
CALLERS = 250
HOUR = 3_600_000


def limited(key: str, limit: int) -> Counter:
    return Counter(f"rl:{{{key}}}", HOUR, limit, 1, 1, True)


def spend_together(url: str, key: str, limit: int, *, kill: bool) -> int:
    """How many were admitted, by what the processes say that lived to say it."""
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(__name__, url)) for _ in range(PROCESSES)]
        for child in children:
            child.tell("spend", key, limit, HITS // PROCESSES)
        if kill:
            children.pop().kill()
        return sum(child.hear() for child in children)


def test_ten_thousand_at_once_from_four_processes(valkey) -> None:
    admitted = spend_together(valkey.url, "exact", 3_000, kill=False)
    record("R13", case="4 processes", value=admitted, passed=admitted == 3_000, limit=3_000, hits=HITS)
    assert admitted == 3_000


def test_one_is_killed_in_the_middle(valkey) -> None:
    """What it had counted and could not say is lost to its callers, never admitted twice."""
    assert 0 < spend_together(valkey.url, "killed", 3_000, kill=True) <= 3_000


async def spend(url: str, key: str, limit: str, hits: str) -> int:
    store, counter, admitted = ValkeyStore(url, timeout=10), limited(key, int(limit)), 0
    left = iter(range(int(hits)))

    async def call() -> None:
        nonlocal admitted
        for _ in left:
            with contextlib.suppress(Unavailable):
                taken = await store.take([counter], 20)
                admitted += taken.admitted

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    await store.close()
    return admitted


if __name__ == "__main__":
    place = sys.argv[1]
    asyncio.run(answer("ready", {"spend": lambda *words: spend(place, *words)}))
