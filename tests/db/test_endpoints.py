"""Instances of services: heartbeats wake nobody, changes wake everybody, and who stays away is forgotten."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import endpoints
from db import engine as engines
from db.endpoints import Registration

T = TypeVar("T")


def said(instance: str = "a", **more: Any) -> Registration:
    return Registration("ledger", instance, "10.0.0.1", 8080, "ci", **more)


async def run(engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    return await engines.run(engine, work)


async def put(engine: AsyncEngine, registration: Registration) -> bool:
    """As the control API does; whether it was a change."""
    if await run(engine, lambda c: endpoints.heartbeat(c, registration)) is not None:
        return False
    await run(engine, lambda c: endpoints.register(c, registration))
    return True


@asynccontextmanager
async def watching(url: str, poll: float = 60.0) -> AsyncIterator[list[int]]:
    seen: list[int] = []

    async def follow() -> None:
        async with aclosing(endpoints.watch(url, poll=poll).values()) as versions:
            async for version in versions:
                seen.append(version)  # noqa: PERF401 - others look at it meanwhile

    task = asyncio.create_task(follow())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await engines.settled()


async def until(condition: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 15, "it did not happen"
        await asyncio.sleep(0.01)


async def test_a_change_is_counted_and_told_and_a_heartbeat_is_not(url: str, engine: AsyncEngine) -> None:
    async with watching(url) as seen:
        await until(lambda: seen == [0])
        assert await put(engine, said())
        await until(lambda: seen == [0, 1])
        (before,) = await run(engine, endpoints.every)
        assert not await put(engine, said())
        (after,) = await run(engine, endpoints.every)
        assert after.expires_at is not None
        assert before.expires_at is not None
        assert after.expires_at > before.expires_at
        assert after.registered_at == before.registered_at
        assert await put(engine, said(weight=2, labels={"v": "2"}))
        await until(lambda: seen == [0, 1, 2])
        assert await run(engine, lambda c: endpoints.deregister(c, "ledger", "a"))
        assert not await run(engine, lambda c: endpoints.deregister(c, "ledger", "a"))
        await until(lambda: seen == [0, 1, 2, 3])


async def test_a_heartbeat_waits_for_no_lock_but_its_own(engine: AsyncEngine) -> None:
    await put(engine, said())
    async with engine.begin() as holder:
        await holder.execute(text("SELECT * FROM head FOR UPDATE"))
        await holder.execute(text("SELECT * FROM endpoints_version FOR UPDATE"))
        assert not await asyncio.wait_for(put(engine, said()), 3)


async def test_who_stays_away_is_forgotten_though_nobody_calls(url: str, engine: AsyncEngine) -> None:
    async with watching(url, poll=0.1) as one, watching(url, poll=0.1) as other:
        await until(lambda: one == other == [0])
        await put(engine, said("short", ttl=0.5))
        await put(engine, said("long", ttl=60))
        await put(engine, said("for-ever", ttl=None))
        await until(lambda: one[-1] == other[-1] == 4)
        found = await run(engine, endpoints.every)
        assert {row.instance for row in found} == {"long", "for-ever"}
        await asyncio.sleep(0.3)
        assert one[-1] == 4, "one expiry is one change, however many replicas look"


async def test_an_outage_of_ours_expires_nobody(url: str, engine: AsyncEngine) -> None:
    """Nobody looked, so nobody could send heartbeats either: after that everybody has a whole TTL."""
    await put(engine, said("patient", ttl=30))
    await put(engine, said("leaving"))
    await run(engine, lambda c: endpoints.drain(c, "ledger", "leaving", 30))
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE endpoints SET expires_at = now() - interval '1 h'"))
    async with watching(url, poll=0.1) as seen:
        await until(lambda: len(seen) > 1 or seen == [4])
        await asyncio.sleep(0.3)
        assert [row.instance for row in await run(engine, endpoints.every)] == ["patient"]


async def test_draining_lasts_whatever_the_instance_says(engine: AsyncEngine) -> None:
    await put(engine, said())
    drained = await run(engine, lambda c: endpoints.drain(c, "ledger", "a", 60))
    assert drained is not None
    assert drained.state == "draining"
    assert not await put(engine, said(weight=5))
    assert await run(engine, endpoints.every) == (drained,)
    assert await run(engine, lambda c: endpoints.drain(c, "ledger", "nobody", 60)) is None


@pytest.mark.parametrize("rounds", [30])
async def test_writers_and_sweepers_at_once_do_not_stop_each_other(url: str, engine: AsyncEngine, rounds: int) -> None:
    async def instance(name: str) -> None:
        for number in range(rounds):
            await put(engine, said(name, weight=1 + number % 7, ttl=0.01))

    async with watching(url, poll=0.01) as one, watching(url, poll=0.01) as other:
        await until(lambda: bool(one and other))
        await asyncio.gather(*map(instance, "abcd"))
        began = time.monotonic()
        while await run(engine, endpoints.every):
            assert time.monotonic() - began < 15, "they are still there"
            await asyncio.sleep(0.05)
    assert await run(engine, endpoints.version) >= rounds
