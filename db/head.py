"""The head row: the lock that every change takes first, and the hint that goes out when one is committed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.rows import Head

CHANNEL: Final = "tollhouse_head"

# For this transaction only (a pooler may give the session to somebody else next): nobody waits for ever on a lock whose
# holder is stuck, and a holder that is stuck itself loses its session and with it the lock.
_LIMITS = text(
    "SELECT set_config('lock_timeout', '3000', true), set_config('statement_timeout', '4000', true), "
    "set_config('idle_in_transaction_session_timeout', '8000', true)"
)


@dataclass(frozen=True, slots=True)
class LockedHead:
    """The head while this transaction holds it; `now` is the database's clock, the only one that is recorded."""

    head: Head
    audit_number: int
    audit_hash: bytes
    now: datetime


async def read(connection: AsyncConnection) -> Head:
    row = (await connection.execute(select(tables.head.c.revision, tables.head.c.keys_version))).one()
    return Head(row.revision, row.keys_version)


async def lock(connection: AsyncConnection) -> LockedHead:
    """Waits for its turn (3 s at most) and keeps everybody else out until the transaction ends."""
    await connection.execute(_LIMITS)
    columns = (*tables.head.c, func.clock_timestamp().label("now"))
    row = (await connection.execute(select(*columns).with_for_update(of=tables.head))).one()
    return LockedHead(Head(row.revision, row.keys_version), row.audit_number, row.audit_hash, row.now)


async def advance(connection: AsyncConnection, head: Head) -> None:
    """Writes the locked head and tells listeners, who hear it when the transaction commits."""
    await connection.execute(update(tables.head).values(revision=head.revision, keys_version=head.keys_version))
    notify = select(func.pg_notify(CHANNEL, bindparam("payload")))
    await connection.execute(notify, {"payload": f"{head.revision} {head.keys_version}"})
