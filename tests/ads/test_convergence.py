"""How long the fleet took is counted once for each snapshot that all who were there got."""

import asyncio
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from tests.ads.dialogue import routes
from tests.ads.simulated import Client, connected
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.resources import ROUTES, Snapshot


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition may be anything
            await asyncio.sleep(0.01)


async def test_a_snapshot_counts_when_the_last_node_has_it() -> None:
    registry, hub = CollectorRegistry(), Hub()

    def counted() -> float:
        return registry.get_sample_value("gw_xds_convergence_seconds_count") or 0.0

    hub.publish(Snapshot.of(1, [routes("a")]))
    server = await start(hub, "127.0.0.1:0", registry=registry)
    try:
        async with connected(server.port) as channel:
            quick, slow = Client(channel, "delta", node="quick"), Client(channel, "sotw", node="slow")
            for c in (quick, slow):
                await c.say(ROUTES, "a")
                await c.take()
            hub.publish(Snapshot.of(2, [routes("a", 1)]))
            await quick.take()
            late = await slow.hear()
            await asyncio.sleep(0.2)
            assert counted() == 0
            await slow.answer(late)
            await until(lambda: counted() == 1)
            taken = registry.get_sample_value("gw_xds_convergence_seconds_sum")
            assert taken is not None
            assert 0.2 <= taken < 10
    finally:
        await server.stop(0)
