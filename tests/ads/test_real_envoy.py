"""Real Envoy 1.40 in both variants against the server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tests.ads import real_envoy as real
from tests.ads.simulated import Kind
from xds_server.ads.board import TypeRow
from xds_server.ads.hub import Hub
from xds_server.ads.server import AdsServer, start
from xds_server.resources import CLUSTER, LISTENER, PUSH_ORDER, ROUTES, Snapshot

pytestmark = pytest.mark.parametrize("kind", ["sotw", "delta"])


class Plane:
    """A control plane of one process that can be restarted on its port."""

    def __init__(self) -> None:
        self.revision = 0
        self.port = 0
        self.hub = Hub()
        self.registry = CollectorRegistry()
        self.server: AdsServer | None = None

    async def begin(self) -> None:
        self.server = await start(self.hub, f"127.0.0.1:{self.port}", registry=self.registry)
        self.port = self.server.port

    async def end(self) -> None:
        if self.server is not None:
            await self.server.stop(0)
        self.server = None

    async def restart(self) -> None:
        """As another process would: it knows the snapshot and nothing of any stream."""
        await self.end()
        snapshot, self.hub, self.registry = self.hub.snapshot, Hub(), CollectorRegistry()
        assert snapshot is not None
        self.hub.publish(snapshot)
        await self.begin()

    def publish(self, *messages: object) -> Snapshot:
        self.revision += 1
        snapshot = Snapshot.of(self.revision, messages)  # type: ignore[arg-type]
        self.hub.publish(snapshot)
        return snapshot

    async def taken(self, snapshot: Snapshot, types: int = 3) -> None:
        """Wait until a connected node with so many subscriptions has all of it."""
        async with asyncio.timeout(15):
            while not any(row.connected and len(row.types) >= types for row in self.hub.board.rows):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert await self.hub.converged(snapshot, 15) == ()

    def sent(self, *types: str) -> int:
        counts = (self.registry.get_sample_value("gw_xds_sent_total", {"type_url": url}) for url in types or PUSH_ORDER)
        return int(sum(count or 0 for count in counts))

    def row(self, type_url: str) -> TypeRow:
        (node,) = (row for row in self.hub.board.rows if row.connected)
        return node.types[type_url]


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    plane = Plane()
    await plane.begin()
    try:
        yield plane
    finally:
        await plane.end()


async def test_a_route_goes_live_a_bad_one_is_refused_once_and_the_fix_is_taken(
    plane: Plane, kind: Kind, tmp_path: Path
) -> None:
    first = plane.publish(real.listener(), real.routes(real.says("one")))
    async with real.running(kind, plane.port, tmp_path) as envoy:
        await envoy.sees("/", 200, "one")
        await plane.taken(first)
        (node,) = plane.hub.board.rows
        assert (node.id, node.cluster, node.mode) == ("envoy-1", "edge", kind)
        assert node.build.startswith("1.40.")

        listeners = plane.sent(LISTENER)
        second = plane.publish(real.listener(), real.routes(real.says("two")))
        await envoy.sees("/", 200, "two")
        await plane.taken(second)
        assert plane.sent(LISTENER) == listeners

        bad = plane.publish(real.listener(), real.routes(real.says("three"), real.bad_route()))
        async with asyncio.timeout(10):
            while plane.row(ROUTES).nack is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        refusal = plane.row(ROUTES).nack
        assert refusal is not None
        assert "missing )" in refusal.message
        assert refusal.names == ("http",)
        assert refusal.version == bad.types[ROUTES].version
        count = plane.sent()
        await asyncio.sleep(2)
        assert plane.sent() == count  # parked: neither side goes on about it
        assert not plane.hub.board.synced(bad)
        assert (await envoy.get("/")).text == "two"

        good = plane.publish(real.listener(), real.routes(real.says("four")))
        await envoy.sees("/", 200, "four")
        await plane.taken(good)
        assert plane.row(ROUTES).nack is None
        assert plane.row(ROUTES).last_nack == refusal


async def test_s49_a_changed_cluster_warms_at_once_with_unchanged_endpoints(
    plane: Plane, kind: Kind, tmp_path: Path
) -> None:
    async with real.upstream("hello") as port:
        rest = [real.listener(), real.routes(real.to("up")), real.assignment("up", port)]
        first = plane.publish(*rest, real.eds_cluster("up"))
        async with real.running(kind, plane.port, tmp_path) as envoy:
            await envoy.sees("/up", 200, "hello")
            await plane.taken(first, types=4)
            began = asyncio.get_running_loop().time()
            changed = plane.publish(*rest, real.eds_cluster("up", timeout=3))
            await plane.taken(changed, types=4)
            assert asyncio.get_running_loop().time() - began < 10  # Envoy would give up waiting after 15 s
            assert (await envoy.get("/up")).text == "hello"


async def test_s48_s52_moving_a_route_to_a_new_cluster_loses_no_request(
    plane: Plane, kind: Kind, tmp_path: Path
) -> None:
    async with real.upstream("old") as old, real.upstream("new") as new:
        fixed = [real.listener()]
        before = [real.eds_cluster("old"), real.assignment("old", old), real.routes(real.to("old"))]
        after = [real.eds_cluster("new"), real.assignment("new", new), real.routes(real.to("new"))]
        first = plane.publish(*fixed, *before)
        async with real.running(kind, plane.port, tmp_path) as envoy:
            await envoy.sees("/up", 200, "old")
            await plane.taken(first, types=4)
            url = f"http://127.0.0.1:{await envoy.port('http')}/up"
            seen: list[tuple[int, str]] = []

            async def traffic() -> None:
                while True:
                    answer = await envoy.http.get(url)
                    seen.append((answer.status_code, answer.text))

            load = asyncio.create_task(traffic())
            for content, text in ((after, "new"), (before, "old"), (after, "new"), (before, "old")):
                snapshot = plane.publish(*fixed, *content)
                await plane.taken(snapshot, types=4)
                await envoy.sees("/up", 200, text)
                assert plane.row(CLUSTER).current_version == snapshot.types[CLUSTER].version
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)
            assert {status for status, _ in seen} == {200}
            assert {text for _, text in seen} == {"old", "new"}


async def test_a_filter_over_ecds_changes_without_its_listener(plane: Plane, kind: Kind, tmp_path: Path) -> None:
    content = [real.listener(ecds="guard"), real.routes(real.says("in"))]
    first = plane.publish(*content, real.guard("guard", allow=False))
    async with real.running(kind, plane.port, tmp_path) as envoy:
        await envoy.sees("/", 403)
        await plane.taken(first, types=4)
        listeners = plane.sent(LISTENER, ROUTES)
        opened = plane.publish(*content, real.guard("guard", allow=True))
        await envoy.sees("/", 200, "in")
        await plane.taken(opened, types=4)
        assert plane.sent(LISTENER, ROUTES) == listeners


async def test_a_restarted_server_is_found_again_and_delta_resends_nothing(
    plane: Plane, kind: Kind, tmp_path: Path
) -> None:
    async with real.upstream("hello") as port:
        fixed = [real.listener(), real.eds_cluster("up"), real.assignment("up", port)]
        first = plane.publish(*fixed, real.routes(real.to("up"), real.says("one")))
        async with real.running(kind, plane.port, tmp_path) as envoy:
            await envoy.sees("/up", 200, "hello")
            await plane.taken(first, types=4)
            await plane.restart()
            await plane.taken(first, types=4)
            if kind == "delta":
                assert plane.sent() == 0
            assert (await envoy.get("/up")).text == "hello"
            count = plane.sent()
            second = plane.publish(*fixed, real.routes(real.to("up"), real.says("two")))
            await envoy.sees("/", 200, "two")
            await plane.taken(second, types=4)
            assert plane.sent() == count + 1
