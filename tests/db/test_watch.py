"""Following the head: no final value is missed, whatever happens to the connection or the server."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from db import engine as engines
from db import keys, migrate, revisions
from db.rows import Head, ObjectRow
from db.watch import HeadWatch
from gwctl.up.postgres import Postgres
from tests.support import postgres

PATIENCE = 1.0


@pytest.fixture(scope="module")
def own_server() -> Iterator[Postgres]:
    """Durable, and ours to kill."""
    with postgres.server(fast=False) as server:
        asyncio.run(migrate.upgrade(server.url))
        yield server


@pytest.fixture
async def own_engine(own_server: Postgres) -> AsyncIterator[AsyncEngine]:
    made = engines.connect(own_server.url)
    yield made
    await made.dispose()


@asynccontextmanager
async def watching(url: str, poll: float = 1.0) -> AsyncIterator[tuple[HeadWatch, list[Head]]]:
    watch = HeadWatch(url, poll=poll, patience=PATIENCE)
    seen: list[Head] = []

    async def follow() -> None:
        async with aclosing(watch.heads()) as heads:
            async for head in heads:
                seen.append(head)  # noqa: PERF401 - others look at it meanwhile

    task = asyncio.create_task(follow())
    try:
        yield watch, seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await engines.settled()


async def commit(engine: AsyncEngine, value: object) -> int:
    row = ObjectRow("modules", "a", "team", {}, {"value": value}, "f.yaml")
    return (
        await revisions.commit(engine, expected_revision=None, objects=[row], author="x", message="", digest="d")
    ).number


async def until(condition: object, seconds: float = 15.0) -> float:
    """How long it took."""
    assert callable(condition)
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not happen"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def test_a_notification_is_faster_than_the_poll(url: str, engine: AsyncEngine) -> None:
    async with watching(url, poll=60) as (_, seen):
        await until(lambda: seen == [Head(0, 0)])
        await commit(engine, 1)
        await until(lambda: seen[-1] == Head(1, 0))
        async with engine.begin() as connection:
            await keys.create_consumer(connection, name="c", tier="free")
            await keys.revoke(connection, "nobody")
        await until(lambda: seen[-1] == Head(1, 1))
    assert seen == [Head(0, 0), Head(1, 0), Head(1, 1)]


async def test_the_poll_finds_what_was_not_notified(url: str, engine: AsyncEngine) -> None:
    async with watching(url, poll=0.1) as (_, seen):
        await until(lambda: seen == [Head(0, 0)])
        async with engine.begin() as connection:
            await connection.exec_driver_sql("UPDATE head SET revision = 7")
        await until(lambda: seen[-1] == Head(7, 0))


async def test_terminated_sessions_miss_nothing(url: str, engine: AsyncEngine) -> None:
    """The LISTEN session is ended 20 times, with changes in flight around it."""
    terminate = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE '%%FROM head' AND pid <> pg_backend_pid()"
    )
    async with watching(url) as (watch, seen):
        await until(lambda: seen != [])
        for round_ in range(20):
            await commit(engine, [round_, "before"])
            async with engine.connect() as connection:
                assert (await connection.exec_driver_sql(terminate)).scalar_one() >= 1
            last = await commit(engine, [round_, "after"])
            await until(lambda last=last: seen[-1].revision == last)  # type: ignore[misc]
        assert watch.connected
    numbers = [head.revision for head in seen]
    assert numbers == sorted(set(numbers)), "strictly increasing"


async def test_a_watch_ends_when_cancelled_even_as_news_arrives(url: str, engine: AsyncEngine) -> None:
    """`asyncio.wait_for` of Python 3.11, which psycopg waits with, can lose a cancellation."""
    dice = random.Random(3)
    for round_ in range(40):
        seen: list[Head] = []

        async def follow(seen: list[Head] = seen) -> None:
            async with aclosing(HeadWatch(url, poll=60).heads()) as heads:
                async for head in heads:
                    seen.append(head)  # noqa: PERF401

        task = asyncio.create_task(follow())
        await until(lambda seen=seen: seen != [])  # type: ignore[misc]
        committing = asyncio.create_task(commit(engine, round_))
        await asyncio.sleep(dice.uniform(0, 0.012))
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done == {task}, "the cancellation was lost"
        await committing
    await engines.settled()


async def test_a_killed_server_is_survived(own_server: Postgres, own_engine: AsyncEngine) -> None:
    async with watching(own_server.url) as (watch, seen):
        await until(lambda: seen != [])
        for round_ in range(3):
            acknowledged = await commit(own_engine, [round_, time.time()])
            own_server.kill9()
            await until(lambda: not watch.connected)
            with pytest.raises(engines.Unavailable):
                await engines.run(own_engine, revisions.head)
            own_server.start()  # from this thread: a child of a worker thread dies with it
            head = await engines.run(own_engine, revisions.head)
            assert head.revision == acknowledged, "what was acknowledged is there"
            last = await commit(own_engine, [round_, "back"])
            assert last == acknowledged + 1
            await until(lambda last=last: seen[-1].revision == last)  # type: ignore[misc]
    numbers = [head.revision for head in seen]
    assert numbers == sorted(set(numbers))


async def test_a_frozen_server_is_noticed(own_server: Postgres, own_engine: AsyncEngine) -> None:
    """Connections stay open and nothing answers: only time tells."""
    async with watching(own_server.url, poll=0.2) as (watch, seen):
        await until(lambda: seen != [])
        await commit(own_engine, time.time())
        frozen = processes(own_server)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert await until(lambda: not watch.connected) < PATIENCE + 4
            began = time.monotonic()
            with pytest.raises(engines.Unavailable):
                await engines.run(own_engine, revisions.head, deadline=1.0)
            assert time.monotonic() - began < 4
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        await until(lambda: watch.connected)
        last = await commit(own_engine, time.time())
        await until(lambda: seen[-1].revision == last)


def processes(server: Postgres) -> list[int]:
    """The server and all its backends."""
    import psutil

    main = psutil.Process(server.pid)
    return [main.pid, *(child.pid for child in main.children())]


async def test_a_watch_waits_for_a_server_that_is_not_there_yet() -> None:
    async with watching("postgresql://nobody@127.0.0.1:1/none") as (watch, seen):
        await until(lambda: watch.last_error != "")
        assert not watch.connected
        assert seen == []
