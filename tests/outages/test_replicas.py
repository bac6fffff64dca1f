"""Goal R6: any number of replicas over one PostgreSQL say the same, and none says what is older than what a node has.

A client hops between two replicas and a third that starts anew each time, while revisions are applied.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse

from tests.ads.simulated import Client, connected
from tests.support.plane import Content
from tests.support.results import record, size
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.agent.follower import Follower
from xds_server.resources import CLUSTER, ROUTES, Snapshot

DELAY = 0.25  # seconds by which one replica publishes after another
"""More than a hop takes, so that a client does meet a replica that is behind."""


@dataclass
class Store:
    """The head row that all replicas ask, and who is told of a change when."""

    head: int = 1
    content: Content = field(default_factory=lambda: Content(clusters=3, routes=3, size=0, still=False))

    def snapshot(self) -> Snapshot:
        return self.content.snapshot(self.head)


class Replica:
    """`delay`: seconds from a commit until it has compiled the revision."""

    def __init__(self, store: Store, delay: float) -> None:
        self.hub, self._store, self._delay = Hub(), store, delay
        self.hub.current = self._current
        self._published = asyncio.Condition()

    async def follow(self) -> None:
        while True:
            published = self.hub.snapshot
            if published is None or published.revision < self._store.head:
                snapshot = self._store.snapshot()
                await asyncio.sleep(self._delay)
                async with self._published:
                    self.hub.publish(snapshot)
                    self._published.notify_all()
            await asyncio.sleep(0.002)

    async def _current(self) -> bool:
        head = self._store.head
        async with self._published:
            await self._published.wait_for(lambda: self.hub.snapshot is not None and self.hub.snapshot.revision >= head)
        return True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        following = asyncio.create_task(self.follow())
        server = await start(self.hub, "127.0.0.1:0")
        try:
            yield server.port
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await server.stop(0)


def revision_of(response: Any) -> int:
    (resource,) = response.resources
    table = RouteConfiguration.FromString(resource.resource.value)
    return int(table.virtual_hosts[0].name.removeprefix("version="))


@dataclass
class Hopper:
    """What the client has, and what it was sent that it had, or that was older."""

    versions: dict[str, dict[str, str]] = field(default_factory=lambda: {CLUSTER: {}, ROUTES: {}})
    revision: int = 0
    redundant: int = 0
    regressions: int = 0
    empty: int = 0

    async def hop(self, port: int, wanted: int) -> None:
        """One stream, until it has revision `wanted` or, if it has that already, was left in peace for a moment."""
        async with connected(port) as channel:
            client = Client(channel, "delta")
            for url, names in ((CLUSTER, ("*",)), (ROUTES, ("version",))):
                brought = {"initial_resource_versions": self.versions[url]}
                await client.say(url, *names, **brought)
            while True:
                try:
                    response = await client.hear(0.04 if self.revision >= wanted else 10)
                except TimeoutError:
                    return
                await client.answer(response)
                self._take(response)

    def _take(self, response: Any) -> None:
        held = self.versions[response.type_url]
        self.empty += not response.resources and not response.removed_resources
        self.redundant += sum(held.get(r.name) == r.version for r in response.resources)
        held.update({r.name: r.version for r in response.resources})
        if response.type_url == ROUTES:
            found = revision_of(response)
            self.regressions += found < self.revision
            self.revision = found


async def test_r6_a_client_that_hops_gets_nothing_twice_and_nothing_older() -> None:
    store, hopper, hops = Store(), Hopper(), size("HOPS", 60)
    async with Replica(store, 0).running() as quick, Replica(store, DELAY).running() as slow:
        for number in range(hops):
            if number % 5 == 4:
                store.head += 1
                await asyncio.sleep(0.02)  # the quick one has it now
            async with _place(number, store, quick, slow) as port:
                await hopper.hop(port, store.head)
    wrong = hopper.redundant + hopper.regressions
    record("R6", value=wrong, passed=not wrong, hops=hops, revisions=store.head)
    assert hopper.revision == store.head
    assert (hopper.redundant, hopper.regressions, hopper.empty) == (0, 0, 0)


@asynccontextmanager
async def _place(number: int, store: Store, quick: int, slow: int) -> AsyncIterator[int]:
    """The quick replica, then the slow one, then one that has just been started from nothing."""
    if number % 3 < 2:
        yield (quick, slow)[number % 3]
        return
    async with Replica(store, DELAY).running() as new:
        yield new


async def test_a_replica_that_cannot_tell_leaves_what_a_node_has_and_gives_to_one_that_has_nothing() -> None:
    """With PostgreSQL away, a replica may have been away itself while another one published."""
    store, knows = Store(), asyncio.Event()

    async def current() -> bool:
        return knows.is_set()

    behind = Replica(store, 0)
    behind.hub.current = current
    async with behind.running() as port:
        await behind.hub.published()
        fresh = Hopper()
        await fresh.hop(port, 1)
        assert fresh.revision == 1
        node = Hopper(versions={CLUSTER: {"cluster-0000": "of revision 2"}, ROUTES: {"version": "of revision 2"}})
        node.revision = 2
        await node.hop(port, 2)
        assert (node.revision, node.regressions) == (2, 0)
        store.head = 3
        knows.set()
        await node.hop(port, 3)
        assert (node.revision, node.regressions) == (3, 0)


async def test_sotw_brings_one_version_for_all() -> None:
    replica = Replica(Store(), 0)

    async def doubtful() -> bool:
        return False

    replica.hub.current = doubtful
    async with replica.running() as port, connected(port) as channel:
        snapshot = await replica.hub.published()
        same, other = Client(channel, "sotw"), Client(channel, "sotw")
        await other.say(CLUSTER, version_info="another")
        await same.say(CLUSTER, version_info=snapshot.types[CLUSTER].version)
        answer = await same.take()
        assert isinstance(answer, DiscoveryResponse)
        assert answer.version_info == snapshot.types[CLUSTER].version, "a reconnect is answered"
        try:
            await other.hear(0.3)
        except TimeoutError:
            return
    raise AssertionError("what a node has was replaced by what may be older")


async def test_an_agent_taking_all_is_not_its_envoy_taking_it() -> None:
    """Else a revision that Envoy refuses would count as the last good one."""
    hub, content = Hub(), Content(clusters=1, routes=1, size=0, still=False)
    hub.publish(content.snapshot(1))
    server = await start(hub, "127.0.0.1:0")
    taken: list[str] = []
    hub.views.taken = lambda node_id, choice: taken.append(node_id)  # type: ignore[method-assign]
    got = asyncio.Event()

    async def take(snapshot: Snapshot) -> None:
        got.set()

    envoy = Node(id="envoy-1", cluster="edge")
    follower = Follower(envoy, [f"127.0.0.1:{server.port}"], grpc.aio.insecure_channel, take)
    following = asyncio.create_task(follower.run())
    async with asyncio.timeout(10):
        await got.wait()
        await hub.converged(1, 5)
    assert [row.synced(1) for row in hub.board.rows] == [True]
    assert taken == []
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await server.stop(0)
