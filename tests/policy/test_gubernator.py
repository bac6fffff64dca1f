"""gubernator's tables for its two algorithms, written anew: what its buckets do, ours do where they are the same thing.

Its token bucket is full again all at once when its time is up: a fixed window here, though ours begins with the clock
and not with the first hit. Its leaky bucket is ours with a `burst`. A request for more than is left is refused whole
and takes nothing, in both.
"""

import pytest

from policy.ratelimit import pace
from policy.ratelimit.memory import MemoryStore
from policy.ratelimit.store import FIXED, GCRA, Counter

START = 1_800_000_000_000
MINUTE = 60_000
TOKENS = Counter("rl:t", MINUTE, 10, 1, 1, True, 0, FIXED)
LEAKY = Counter("rl:l", 30_000, 10, 1, 1, True, 10, GCRA)


async def run(counter, table) -> None:
    """`table`: a step of the clock in milliseconds, hits (below 0 given back), whether they fit, what is left then."""
    clock = [START]
    store = MemoryStore(lambda: clock[0])
    for step, hits, fits, left in table:
        clock[0] += step
        asked = counter._replace(need=max(hits, 1) if hits >= 0 else 0, charge=hits)
        taken = await store.take([asked], 1)
        found = (taken.admitted, pace.remaining(asked, taken.readings[0].state, taken.now))
        assert found == (fits, left), (step, hits)


@pytest.mark.parametrize(
    "table",
    [
        [(0, 1, True, 9), (0, 1, True, 8), (100, 0, True, 8), (MINUTE, 1, True, 9)],
        [(0, 9, True, 1), (0, 0, True, 1), (0, 2, False, 1), (0, 1, True, 0), (0, 1, False, 0), (0, 0, False, 0)],
        [(0, 100, False, 10), (0, 10, True, 0), (0, -1, True, 1), (0, -10, True, 10), (0, -100, True, 10)],
        [(0, 10, True, 0), (MINUTE - 1, 1, False, 0), (1, 1, True, 9)],
    ],
)
async def test_tokens(table):
    await run(TOKENS, table)


@pytest.mark.parametrize(
    "table",
    [
        [(0, 1, True, 9), (0, 2, True, 7), (0, 7, True, 0), (0, 1, False, 0), (3000, 1, True, 0)],
        [(0, 10, True, 0), (3100, 0, True, 1), (900, 0, True, 1), (5000, 0, True, 3), (60_000, 0, True, 10)],
        [(0, 5, True, 5), (3000, 0, True, 6), (3000, 0, True, 7), (0, 8, False, 7), (0, 7, True, 0)],
        [(0, 5, True, 5), (0, -1, True, 6), (0, -100, True, 10), (0, 10, True, 0)],
        [(0, 100, False, 10), (0, 0, True, 10)],
    ],
)
async def test_leaky(table):
    await run(LEAKY, table)
