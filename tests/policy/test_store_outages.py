"""The store fails in every way that it can: each decision is the configured one, at once, and counting comes back."""

import asyncio
import os
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from envoy.service.ratelimit.v3 import rls_pb2
from prometheus_client import CollectorRegistry

from gateway.model import decode
from policy.metrics import Metrics
from policy.ratelimit.service import RateLimit
from policy.ratelimit.store import Unavailable
from policy.ratelimit.valkey import ValkeyStore
from policy.view import PolicyView, Views
from protos.tollhouse.ratelimit.v1 import ratelimit_pb2
from tests.support import valkeys
from tests.support.results import record, size

from .facts_of import DOCUMENT, limit_request
from .test_counters import until

DECISIONS = size("OUTAGE_DECISIONS", 10_000)
CALLERS = 16
BUDGET = 0.1
OPEN, CLOSED = "open", "closed"
CONFIGURED = {OPEN: "OK", CLOSED: "UNAVAILABLE"}
"""The gateway denies on errors, as Envoy does when the RPC fails; one tier's limits allow, which we must answer."""


def asked(tier: str, client: str) -> ratelimit_pb2.RateLimitRequest:
    sent = limit_request({"tier": tier, "client": client})
    return ratelimit_pb2.RateLimitRequest.FromString(sent.SerializeToString())


@dataclass
class Rig:
    """The rate limit service with its counters behind a way that can be cut."""

    server: valkeys.Server
    way: valkeys.Way
    store: ValkeyStore
    service: RateLimit

    async def decide(self, tier: str, client: str) -> str:
        try:
            answer = await self.service.decide(asked(tier, client), BUDGET)
        except Unavailable:
            return "UNAVAILABLE"
        return rls_pb2.RateLimitResponse.Code.Name(answer.overall_code)


@pytest.fixture
async def rig(tmp_path):
    tiers = {
        OPEN: {"rate_limits": [{"limit": "1000000/hour", "on_error": "allow"}]},
        CLOSED: {"rate_limits": [{"limit": "1000000/hour"}]},
    }
    modules = {"status": {**DOCUMENT["modules"]["status"], "tier": OPEN}}
    document = {name: DOCUMENT[name] for name in ("version", "listeners", "upstreams")}
    document |= {"rate_limit_defaults": {"on_error": "deny"}, "tiers": tiers, "modules": modules}
    views = Views(PolicyView.of(decode(document)))
    debugging = ("--enable-debug-command", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "noeviction")
    with valkeys.one(tmp_path / "valkey", *debugging) as server:
        async with valkeys.Way(server.port) as way:
            store = ValkeyStore(f"valkey://127.0.0.1:{way.port}")
            yield Rig(server, way, store, RateLimit(views, store, Metrics(CollectorRegistry())))
            await store.close()


async def stopped(rig: Rig) -> Callable[[], Awaitable[None]]:
    await asyncio.to_thread(rig.server.stop)
    return lambda: asyncio.to_thread(rig.server.start)


async def killed(rig: Rig) -> Callable[[], Awaitable[None]]:
    rig.server.process.kill9()
    return lambda: asyncio.to_thread(rig.server.start)


async def suspended(rig: Rig) -> Callable[[], Awaitable[None]]:
    os.kill(rig.server.process.pid or 0, signal.SIGSTOP)
    return lambda: asyncio.to_thread(os.kill, rig.server.process.pid or 0, signal.SIGCONT)


async def asleep(rig: Rig) -> Callable[[], Awaitable[None]]:
    """It sleeps for 5 s and wakes up by itself."""
    sleeper = threading.Thread(target=rig.server.ask, args=("DEBUG", "SLEEP", "4.5"))
    sleeper.start()
    await asyncio.sleep(0.1)
    return lambda: asyncio.to_thread(sleeper.join)


async def full(rig: Rig) -> Callable[[], Awaitable[None]]:
    rig.server.ask("CONFIG", "SET", "maxmemory", "1")
    return lambda: asyncio.to_thread(rig.server.ask, "CONFIG", "SET", "maxmemory", "100mb")


async def half_open(rig: Rig) -> Callable[[], Awaitable[None]]:
    """Connections stay, new ones are accepted, and nothing comes through."""
    rig.way.silent = True

    async def mend() -> None:
        rig.way.silent = False

    return mend


@pytest.mark.parametrize("outage", [stopped, killed, suspended, asleep, full, half_open], ids=lambda how: how.__name__)
async def test_every_decision_is_the_configured_one(rig: Rig, outage) -> None:
    assert {await rig.decide(tier, "before") for tier in CONFIGURED} == {"OK"}
    mend = await outage(rig)
    seen, took = await decided(rig)
    await mend()
    mended = time.monotonic()
    await until(lambda: rig.store.available)
    recovered = time.monotonic() - mended
    assert await rig.decide(CLOSED, "after") == "OK"

    wrong = {what: times for what, times in seen.items() if CONFIGURED[what[0]] != what[1]}
    p99 = statistics.quantiles(took, n=100)[98] * 1000
    record(
        "R13",
        case=outage.__name__,
        value=f"{p99:.2f} ms",
        passed=not wrong and p99 <= 10 and recovered <= 1,
        decisions=sum(seen.values()),
        wrong=sum(wrong.values()),
        recovery_seconds=round(recovered, 3),
    )
    assert not wrong
    assert p99 < 50, "10 ms is the goal; a busy machine is given more"
    assert recovered < 5


async def decided(rig: Rig) -> tuple[Counter[tuple[str, str]], list[float]]:
    """What came of decisions about each tier in turn, and the seconds that each took."""
    seen: Counter[tuple[str, str]] = Counter()
    took: list[float] = []
    left = iter(range(DECISIONS))

    async def call() -> None:
        for number in left:
            tier = (OPEN, CLOSED)[number % 2]
            started = time.monotonic()
            seen[tier, await rig.decide(tier, f"c{number}")] += 1
            took.append(time.monotonic() - started)
            await asyncio.sleep(0)

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    return seen, took


async def test_restarted_empty_it_counts_from_nothing_and_says_so_to_nobody(rig: Rig) -> None:
    """In memory only, so a restart forgets. Nobody is refused for it, and the script is loaded again."""
    await rig.decide(CLOSED, "a")
    rig.server.process.kill9()
    await asyncio.to_thread(rig.server.start)
    await until(lambda: rig.store.available)
    deadline = time.monotonic() + 5
    while await rig.decide(CLOSED, "a") != "OK":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert rig.server.client.dbsize() == 1


async def test_windows_are_by_the_stores_clock_whatever_ours_says(rig: Rig, monkeypatch) -> None:
    """Two processes whose clocks are 4 minutes apart share one window."""
    true = time.time
    before = int(rig.server.ask("TIME")[0])  # type: ignore[index]
    for skew in (-120, 120):
        monkeypatch.setattr(time, "time", lambda skew=skew: true() + skew)
        monkeypatch.setattr(time, "time_ns", lambda skew=skew: int((true() + skew) * 1e9))
        assert await rig.decide(CLOSED, "skewed") == "OK"
    [key] = rig.server.client.keys("rl:*skewed*")
    window, previous, current = map(int, str(rig.server.client.get(key)).split())
    assert (previous, current) == (0, 2)
    assert window in (before // 3600, (before + 60) // 3600)
