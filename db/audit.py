"""The audit log: who did what, each row bound to all rows before it.

`hash = SHA-256(hash of the row before || canonical row)`, the first row after 32 zero bytes; the head row repeats the
last number and hash. A changed, removed, inserted or swapped row breaks the chain there, a cut-off end disagrees with
the head. Who may write every table can forge a whole new chain; whoever keeps an old hash elsewhere sees that too.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any, Final

from sqlalchemy import exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from db import canonical, head, tables
from db.rows import AuditRow, Json

GENESIS: Final = bytes(32)
BATCH: Final = 1000  # rows read at a time


class BrokenChain(Exception):  # noqa: N818 - a finding, not a failure of the program
    """The log was tampered with. `number`: the first row that does not fit."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"audit row {number}: {why}")
        self.number = number
        self.why = why


async def append(
    connection: AsyncConnection,
    *,
    actor: str,
    action: str,
    object: str,  # noqa: A002 - the field's word
    revision: int | None = None,
    detail: Json = None,
) -> AuditRow:
    """Adds a row in the caller's transaction: it is there exactly when the change that it tells of is."""
    locked = await head.lock(connection)
    row = AuditRow(locked.audit_number + 1, locked.now, actor, action, object, revision, detail, b"")
    written = canonical.text(detail)
    chained = chain(locked.audit_hash or GENESIS, row, written)
    await connection.execute(
        insert(tables.audit).values(
            number=row.number, at=row.at, actor=actor, action=action, object=object, revision=revision,
            detail=written, hash=chained,
        )
    )  # fmt: skip
    await connection.execute(update(tables.head).values(audit_number=row.number, audit_hash=chained))
    return AuditRow(row.number, row.at, actor, action, object, revision, detail, chained)


def chain(before: bytes, row: AuditRow, detail: str) -> bytes:
    """The hash of `row` (its own `hash` is not read) that follows a row with hash `before`; `detail` as stored."""
    when = row.at.astimezone(UTC).isoformat(timespec="microseconds")
    fields = [row.number, when, row.actor, row.action, row.object, row.revision, detail]
    return hashlib.sha256(before + canonical.text(fields).encode()).digest()


async def page(connection: AsyncConnection, *, limit: int = 100, before: int | None = None) -> tuple[AuditRow, ...]:
    """The newest rows first; `before`: only rows with a smaller number."""
    query = select(tables.audit).order_by(tables.audit.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(tables.audit.c.number < before)
    return tuple(_row(found) for found in await connection.execute(query))


async def verify(connection: AsyncConnection) -> int:
    """Walks the whole chain; the number of rows. Raises BrokenChain at the first row that does not fit.

    Nobody is kept waiting: rows that are appended meanwhile are left for the next time.
    """
    end = (await connection.execute(select(tables.head.c.audit_number, tables.head.c.audit_hash))).one()
    number, chained = 0, GENESIS
    async for found in _walk(connection, end.audit_number):
        number, chained = _follow(number, chained, found)
    beyond = exists().where(tables.audit.c.number > tables.head.c.audit_number)
    if (number, chained) != (end.audit_number, end.audit_hash or GENESIS):
        raise BrokenChain(number + 1, "rows are missing at the end, or the head row was changed")
    if (await connection.execute(select(beyond))).scalar_one():
        raise BrokenChain(number + 1, "there are rows that the head row does not know")
    return number


async def _walk(connection: AsyncConnection, end: int) -> AsyncIterator[Any]:
    """Rows up to `end` by number, some at a time."""
    query = select(tables.audit).where(tables.audit.c.number <= end).order_by(tables.audit.c.number).limit(BATCH)
    rows = (await connection.execute(query)).all()
    while rows:
        for found in rows:
            yield found
        rows = (await connection.execute(query.where(tables.audit.c.number > rows[-1].number))).all()


def _follow(number: int, chained: bytes, found: Any) -> tuple[int, bytes]:
    if found.number != number + 1:
        raise BrokenChain(number + 1, f"it is missing, the next one is {found.number}")
    expected = chain(chained, _row(found), found.detail)
    if found.hash != expected:
        raise BrokenChain(found.number, "its content does not fit its hash and the row before it")
    return found.number, expected


def _row(found: Any) -> AuditRow:
    return AuditRow(
        found.number,
        found.at,
        found.actor,
        found.action,
        found.object,
        found.revision,
        _detail(found.detail),
        found.hash,
    )


def _detail(written: str) -> Json:
    """A tampered row need not hold JSON any more; it is shown as it is."""
    try:
        return json.loads(written)
    except ValueError:
        return written
