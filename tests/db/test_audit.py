"""The audit chain: what was written stays as it was, or is seen not to have."""

import random
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import audit
from db import engine as engines
from db.audit import BrokenChain
from tests.support.results import record

ROWS = 12
COLUMNS = ("at", "actor", "action", "object", "revision", "detail", "hash")


async def fill(engine: AsyncEngine, rows: int = ROWS) -> None:
    for number in range(rows):
        async with engine.begin() as connection:
            detail = {"n": number, "who": "ü"}
            revision = number if number % 2 else None
            await audit.append(
                connection,
                actor=f"ann{number % 3}",
                action="apply",
                object=f"o{number}",
                revision=revision,
                detail=detail,
            )


async def test_rows_come_back_newest_first_and_verify(engine: AsyncEngine) -> None:
    await fill(engine)
    async with engine.connect() as connection:
        assert await audit.verify(connection) == ROWS
        page = await audit.page(connection, limit=5)
        assert [row.number for row in page] == [12, 11, 10, 9, 8]
        assert page[0].detail == {"n": 11, "who": "ü"}
        assert [row.number for row in await audit.page(connection, before=3)] == [2, 1]


async def test_an_empty_chain_verifies(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        assert await audit.verify(connection) == 0


async def test_a_row_is_there_exactly_when_its_change_is(engine: AsyncEngine) -> None:
    async def change_my_mind(connection: AsyncConnection) -> None:
        await audit.append(connection, actor="ann", action="key.create", object="k")
        raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        await engines.run(engine, change_my_mind)
    async with engine.connect() as connection:
        assert await audit.page(connection) == ()
        assert await audit.verify(connection) == 0


def change_a_column(dice: random.Random) -> str:
    column = dice.choice(COLUMNS)
    value = {
        "at": "at + interval '1 microsecond'",
        "revision": "coalesce(revision, 0) + 1",
        "hash": "set_byte(hash, 3, (get_byte(hash, 3) + 1) % 256)",
    }.get(column, f"{column} || ' '")
    return f"UPDATE audit SET {column} = {value} WHERE number = {dice.randint(1, ROWS)}"


def delete_a_row(dice: random.Random) -> str:
    return f"DELETE FROM audit WHERE number = {dice.randint(1, ROWS)}"


def cut_the_end(dice: random.Random) -> str:
    return f"DELETE FROM audit WHERE number > {dice.randint(0, ROWS - 1)}"


def swap_two_rows(dice: random.Random) -> str:
    one, other = dice.sample(range(1, ROWS + 1), 2)
    return (
        f"UPDATE audit SET number = -1 WHERE number = {one}; UPDATE audit SET number = {one} WHERE number = {other}; "
        f"UPDATE audit SET number = {other} WHERE number = -1"
    )


def move_content(dice: random.Random) -> str:
    """The content of one row under another one's number, hashes left where they are."""
    one, other = dice.sample(range(1, ROWS + 1), 2)
    return (
        f"UPDATE audit SET object = found.object, detail = found.detail FROM audit AS found "
        f"WHERE found.number = {one} AND audit.number = {other}"
    )


def insert_a_row(dice: random.Random) -> str:
    number = ROWS + 1 if dice.random() < 0.5 else 0
    return (
        "INSERT INTO audit (number, at, actor, action, object, revision, detail, hash) "
        f"SELECT {number}, at, actor, action, object, revision, detail, hash "
        f"FROM audit WHERE number = {dice.randint(1, ROWS)}"
    )


def delete_and_renumber(dice: random.Random) -> str:
    gone = dice.randint(1, ROWS - 1)
    return (
        f"DELETE FROM audit WHERE number = {gone}; UPDATE audit SET number = -number WHERE number > {gone}; "
        f"UPDATE audit SET number = -number - 1 WHERE number < 0; UPDATE head SET audit_number = audit_number - 1"
    )


def forget_everything(_dice: random.Random) -> str:
    return "DELETE FROM audit"


TAMPERINGS: tuple[Any, ...] = (
    change_a_column,
    change_a_column,
    change_a_column,
    delete_a_row,
    cut_the_end,
    swap_two_rows,
    move_content,
    insert_a_row,
    delete_and_renumber,
    forget_everything,
)


async def tamper(connection: AsyncConnection, statements: str) -> bool:
    """Whether the chain is seen to be broken afterwards; everything is rolled back."""
    savepoint = await connection.begin_nested()
    for statement in statements.split("; "):
        await connection.execute(text(statement))
    try:
        await audit.verify(connection)
    except BrokenChain:
        return True
    finally:
        await savepoint.rollback()
    return False


async def test_a_thousand_tamperings_are_all_seen(engine: AsyncEngine) -> None:
    await fill(engine)
    dice = random.Random(20)
    missed = []
    async with engine.connect() as connection:  # never committed
        await connection.execute(text("ALTER TABLE audit DISABLE TRIGGER append_only"))
        for number in range(1000):
            statements = TAMPERINGS[number % len(TAMPERINGS)](dice)
            if not await tamper(connection, statements):
                missed.append(statements)
        assert await audit.verify(connection) == ROWS, "what was rolled back is whole"
    record("S9", value=1000 - len(missed), passed=not missed, unit="of 1000 tamperings seen")
    assert missed == []
