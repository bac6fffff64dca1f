"""Revisions: one transaction, one head, content-addressed, never half there."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from db import audit, revisions
from db.revisions import Conflict, NotFound
from db.rows import ObjectRow, RevisionRow


def module(name: str, **body: Any) -> ObjectRow:
    return ObjectRow("modules", name, "team", {"env": "test"}, body, "routes.yaml", [[["tier"], 3, 5]], [[3, "GW202"]])


async def commit(
    engine: AsyncEngine, *objects: ObjectRow, expected: int | None = None, author: str = "ann"
) -> RevisionRow:
    return await revisions.commit(
        engine, expected_revision=expected, objects=objects, author=author, message="why", digest="d1"
    )


async def counts(engine: AsyncEngine) -> dict[str, int]:
    async with engine.connect() as connection:
        tables = ("revisions", "objects", "bodies", "audit")
        return {name: (await connection.execute(text(f"SELECT count(*) FROM {name}"))).scalar_one() for name in tables}


async def test_a_commit_is_read_back_as_it_was(engine: AsyncEngine) -> None:
    tiers = ObjectRow(
        "tiers", "tiers", "team", {}, {"zinc": {"unlimited": True}, "gold": {"unlimited": True}}, "t.yaml"
    )
    row = await commit(engine, module("a", tier="gold", n=[1, 2.5, None, "ü\u2028\x00"]), tiers, expected=0)
    assert (row.number, row.parent, row.author, row.message, row.digest) == (1, 0, "ann", "why", "d1")
    async with engine.connect() as connection:
        found = await revisions.load(connection, 1)
        assert await revisions.get(connection, 1) == row
        assert (await revisions.head(connection)).revision == 1
    assert found[0] == module("a", tier="gold", n=[1, 2.5, None, "ü\u2028\x00"])
    assert list(found[1].body) == ["zinc", "gold"], "the order of tiers is their rank"


async def test_a_commit_that_changes_nothing_makes_no_revision(engine: AsyncEngine) -> None:
    first = await commit(engine, module("a", x=1))
    before = await counts(engine)
    moved = ObjectRow("modules", "a", "team", {"env": "test"}, {"x": 1}, "other.yaml", [[["tier"], 9, 9]])
    assert await commit(engine, moved, expected=1) == first
    assert await counts(engine) == before


@pytest.mark.parametrize(
    "other",
    [
        ObjectRow("modules", "a", "other", {"env": "test"}, {"x": 1}, "routes.yaml"),
        ObjectRow("modules", "a", "team", {"env": "prod"}, {"x": 1}, "routes.yaml"),
        ObjectRow("modules", "a", "team", {"env": "test"}, {"x": 2}, "routes.yaml"),
        ObjectRow("modules", "b", "team", {"env": "test"}, {"x": 1}, "routes.yaml"),
        ObjectRow("upstreams", "a", "team", {"env": "test"}, {"x": 1}, "routes.yaml"),
    ],
    ids=["owner", "labels", "body", "name", "kind"],
)
async def test_any_difference_makes_one(engine: AsyncEngine, other: ObjectRow) -> None:
    await commit(engine, module("a", x=1))
    assert (await commit(engine, other)).number == 2


async def test_bodies_are_stored_once(engine: AsyncEngine) -> None:
    await commit(engine, module("a", x=1), module("b", x=1))
    await commit(engine, module("a", x=1), module("b", x=2))
    assert await counts(engine) == {"revisions": 2, "objects": 4, "bodies": 2, "audit": 2}


async def test_a_stale_head_is_a_conflict(engine: AsyncEngine) -> None:
    await commit(engine, module("a", x=1), expected=0)
    with pytest.raises(Conflict) as caught:
        await commit(engine, module("a", x=2), expected=0)
    assert (caught.value.head, caught.value.expected) == (1, 0)
    assert (await counts(engine))["revisions"] == 1


async def test_of_two_racing_commits_one_wins(engine: AsyncEngine) -> None:
    for round_ in range(20):
        racing = [commit(engine, module("a", x=round_, by=who), expected=round_, author=who) for who in ("ann", "bob")]
        results = await asyncio.gather(*racing, return_exceptions=True)
        won = [result for result in results if isinstance(result, RevisionRow)]
        lost = [result for result in results if isinstance(result, Conflict)]
        assert (len(won), len(lost)) == (1, 1), results
        assert (won[0].number, lost[0].head) == (round_ + 1, round_ + 1)
    async with engine.connect() as connection:
        assert [row.number for row in await revisions.history(connection)] == list(range(20, 0, -1))
        assert await audit.verify(connection) == 20


async def test_history_is_paged(engine: AsyncEngine) -> None:
    for number in range(5):
        await commit(engine, module("a", x=number))
    async with engine.connect() as connection:
        first = await revisions.history(connection, limit=2)
        assert [row.number for row in first] == [5, 4]
        assert [row.number for row in await revisions.history(connection, limit=9, before=4)] == [3, 2, 1]
        with pytest.raises(NotFound):
            await revisions.get(connection, 6)
        with pytest.raises(NotFound):
            await revisions.load(connection, 6)
        assert await revisions.load(connection, 0) == ()


async def test_two_objects_of_one_name_are_refused_whole(engine: AsyncEngine) -> None:
    with pytest.raises(ValueError, match="same kind and name"):
        await commit(engine, module("a", x=1), module("a", x=2))
    assert set((await counts(engine)).values()) == {0}


async def test_what_cannot_be_json_is_refused_whole(engine: AsyncEngine) -> None:
    with pytest.raises(ValueError, match="JSON"):
        await commit(engine, module("a", x=float("nan")))
    assert set((await counts(engine)).values()) == {0}


@pytest.mark.parametrize("table", ["revisions", "objects", "bodies", "audit"])
@pytest.mark.parametrize("statement", ["UPDATE {0} SET {1} = {1}", "DELETE FROM {0}", "TRUNCATE {0} CASCADE"])
async def test_history_cannot_be_changed(engine: AsyncEngine, table: str, statement: str) -> None:
    await commit(engine, module("a", x=1))
    column = {"revisions": "author", "objects": "owner", "bodies": "body", "audit": "actor"}[table]
    with pytest.raises(DBAPIError, match="append-only"):
        async with engine.begin() as connection:
            await connection.execute(text(statement.format(table, column)))


CRASH = """
import asyncio, os, signal, sys
from db import audit, engine, head, revisions
from db.rows import ObjectRow

async def die(*_args, **_kwargs):
    print("reached", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

async def main(url, step):
    made = engine.connect(url)
    if step == "before commit":
        original = audit.append
        async def append(*args, **kwargs):
            await original(*args, **kwargs)
            await die()
        audit.append = append
    elif step == "after lock":
        revisions._digests = die
    elif step == "after insert":
        head.advance = die
    elif step == "after notify":
        audit.append = die
    objects = [ObjectRow("modules", f"m{n}", "team", {}, {"n": n}, "f.yaml") for n in range(20)]
    await revisions.commit(made, expected_revision=1, objects=objects, author="x", message="", digest="d")
    if step == "after commit":
        await die()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("step", ["after lock", "after insert", "after notify", "before commit", "after commit"])
async def test_a_crash_leaves_all_or_nothing(engine: AsyncEngine, url: str, step: str) -> None:
    await commit(engine, module("a", x=1))
    before = await counts(engine)
    command = [sys.executable, "-c", textwrap.dedent(CRASH), url, step]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, env=os.environ)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "reached\n"), done.stderr
    # the lock of the dead is free, and there is nothing or all of what it did
    after = await commit(engine, module("a", x=2))
    if step == "after commit":
        assert after.number == 3
        assert (await counts(engine))["objects"] == before["objects"] + 21
    else:
        assert after.number == 2
        assert await counts(engine) == {"revisions": 2, "objects": 2, "bodies": 2, "audit": 2}
    async with engine.connect() as connection:
        assert await audit.verify(connection) == after.number
