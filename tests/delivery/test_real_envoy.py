"""Real Envoys while what they have is replaced, refused, and cut off. Envoy's answers are what judges."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from google.protobuf.message import Message

from tests.ads import real_envoy as real
from tests.ads.simulated import Kind
from tests.support.loaded import loaded
from tests.support.results import record, size
from xds_server.ads.hub import Hub
from xds_server.ads.server import AdsServer, start
from xds_server.resources import Snapshot

REPLACEMENTS, REQUESTS = size("REPLACEMENTS", 20), size("REPLACING_REQUESTS", 5_000)
NACKS, OUTAGES = size("NACKS", 5), size("OUTAGES", 0)

kinds = pytest.mark.parametrize("kind", ["sotw", "delta"])


class Plane:
    """A control plane whose streams can be cut, as if it were another one that is there the next moment."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.revision = 0
        self.port = 0
        self.server: AdsServer | None = None

    def publish(self, *messages: Message) -> Snapshot:
        self.revision += 1
        snapshot = Snapshot.of(self.revision, messages)
        self.hub.publish(snapshot)
        return snapshot

    async def begin(self) -> None:
        self.server = await start(self.hub, f"127.0.0.1:{self.port}")
        self.port = self.server.port

    async def end(self) -> None:
        if self.server is not None:
            await self.server.stop(0)
        self.server = None

    async def taken(self, snapshot: Snapshot, seconds: float = 15) -> None:
        assert await self.hub.converged(snapshot, seconds) == ()


@asynccontextmanager
async def planes() -> AsyncIterator[Plane]:
    plane = Plane()
    await plane.begin()
    try:
        yield plane
    finally:
        await plane.end()


def service(edition: int, port: int) -> Sequence[Message]:
    """The service's cluster under another name each time, and the route to it."""
    name = f"service-{edition}"
    return real.eds_cluster(name), real.assignment(name, port), real.routes(real.to(name))


@kinds
async def test_replacing_a_cluster_under_load_fails_no_request(kind: Kind, tmp_path: Path) -> None:
    """The service is a second listener of the same Envoy, which answers by itself."""
    back = [real.listener("back"), real.routes(real.says("service", "/up"), name="back")]
    done = 0
    async with planes() as plane:
        plane.publish(*back)
        async with real.running(kind, plane.port, tmp_path) as envoy:
            port = await envoy.port("back")
            front = [*back, real.listener()]
            plane.publish(*front, *service(0, port))
            await envoy.sees("/up", 200, "service")
            began = time.monotonic()
            with loaded(await envoy.port("http"), "/up") as outcome:
                while done < REPLACEMENTS or time.monotonic() < began + REQUESTS / 2000:
                    done += 1
                    await plane.taken(plane.publish(*front, *service(done, port)))
                    await asyncio.sleep(0.02)
    record(
        "R4",
        case=f"replacing a cluster, {kind}",
        value=outcome.failed,
        passed=outcome.failed == 0 and outcome.requests >= REQUESTS,
        unit="failed requests",
        requests=outcome.requests,
        replacements=done,
    )
    assert outcome.failed == 0, outcome.statuses
    assert outcome.requests > 50 * REPLACEMENTS


def pair(name: str) -> Sequence[Message]:
    return real.eds_cluster(name), real.assignment(name, 1)


@kinds
async def test_r21_what_comes_after_a_refusal_and_a_lost_stream_is_taken(kind: Kind, tmp_path: Path) -> None:
    """Once refused and cut off, Envoy has been seen to ask for its clusters no more (envoyproxy/envoy#34334)."""
    took = []
    async with planes() as plane:
        plane.publish(real.listener(), real.routes(real.says("0")))
        async with real.running(kind, plane.port, tmp_path) as envoy:
            await envoy.sees("/", 200, "0")
            for attempt in range(1, NACKS + 1):
                bad = real.eds_cluster(f"bad-{attempt}")  # the same one would not be tried again
                bad.connect_timeout.FromSeconds(-1)
                plane.publish(real.listener(), real.routes(real.says("bad"), real.bad_route()), bad)
                await refused(plane)
                await plane.end()
                await plane.begin()
                began = time.monotonic()
                good = plane.publish(real.listener(), real.routes(real.says(f"{attempt}")), *pair(f"c{attempt}"))
                await envoy.sees("/", 200, f"{attempt}")
                took.append(time.monotonic() - began)
                await plane.taken(good)
    record(
        "R21",
        case=kind,
        value=f"{max(took):.2f}",
        passed=max(took) <= 10,
        unit="s at most until the next good version",
        times=NACKS,
    )


async def refused(plane: Plane) -> None:
    async with asyncio.timeout(15):
        while not any(row.connected and any(t.nack for t in row.types.values()) for row in plane.hub.board.rows):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.skipif(not OUTAGES, reason="minutes long: make soak")
@kinds
async def test_r27_envoy_comes_back_soon_after_an_outage(kind: Kind, tmp_path: Path) -> None:
    took = []
    async with planes() as plane:
        plane.publish(real.listener(), real.routes(real.says("0")))
        async with real.running(kind, plane.port, tmp_path) as envoy:
            await envoy.sees("/", 200, "0")
            for outage in range(1, OUTAGES + 1):
                await plane.end()
                await asyncio.sleep(2)
                plane.publish(real.listener(), real.routes(real.says(f"{outage}")))
                await plane.begin()
                began = time.monotonic()
                await envoy.sees("/", 200, f"{outage}")
                took.append(time.monotonic() - began)
    p99 = sorted(took)[int(0.99 * (len(took) - 1))]
    record("R27", case=kind, value=f"{p99:.2f}", passed=p99 <= 5, unit="s p99", outages=OUTAGES, longest=max(took))
    assert p99 <= 10
