"""A replica asks the store whether it is behind: once for many, within a bound, and honest when nobody answers."""

import asyncio

from db import engine as engines
from tests.admin.conftest import Api
from xds_server.rollout.freshness import Freshness, Shared


async def test_a_replica_is_current_once_it_has_published_the_head(api: Api, document: str) -> None:
    fresh = Freshness(api.engine, api.publisher)
    assert await fresh(), "nothing was ever applied"
    await api.applied(document)
    assert await fresh()
    assert api.publisher.state.published is not None
    assert api.publisher.state.published.snapshot.revision == 1


async def test_without_the_store_nobody_can_tell(api: Api) -> None:
    engine = engines.connect("postgresql://nobody@/none?host=/nowhere")
    assert not await Freshness(engine, api.publisher)()
    await engine.dispose()


async def test_many_share_a_read_that_began_after_each_asked() -> None:
    begun, ended = 0, asyncio.Event()

    async def read() -> int:
        nonlocal begun
        begun += 1
        mine = begun
        await ended.wait()
        return mine

    shared = Shared(read)
    first = asyncio.create_task(shared())
    await asyncio.sleep(0)
    later = [asyncio.create_task(shared()) for _ in range(50)]
    await asyncio.sleep(0)
    ended.set()
    assert await first == 1
    assert await asyncio.gather(*later) == [2] * 50
