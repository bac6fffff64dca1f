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
    columns = tables.head.c
    query = select(columns.revision, columns.keys_version, columns.rollout_version)
    return Head(*(await connection.execute(query)).one())


async def lock(connection: AsyncConnection) -> LockedHead:
    """Waits for its turn (3 s at most) and keeps everybody else out until the transaction ends."""
    await connection.execute(_LIMITS)
    columns = (*tables.head.c, func.clock_timestamp().label("now"))
    row = (await connection.execute(select(*columns).with_for_update(of=tables.head))).one()
    head = Head(row.revision, row.keys_version, row.rollout_version)
    return LockedHead(head, row.audit_number, row.audit_hash, row.now)


async def advance(connection: AsyncConnection, head: Head) -> None:
    """Writes revision and keys' version of the locked head and tells listeners, who hear it after the commit."""
    await connection.execute(update(tables.head).values(revision=head.revision, keys_version=head.keys_version))
    await _notify(connection, f"{head.revision} {head.keys_version}")


async def advance_rollout(connection: AsyncConnection) -> None:
    """The same for a change of a rollout."""
    version = tables.head.c.rollout_version
    made = await connection.execute(update(tables.head).values(rollout_version=version + 1).returning(version))
    await _notify(connection, f"rollout {made.scalar_one()}")


async def _notify(connection: AsyncConnection, payload: str) -> None:
    await connection.execute(select(func.pg_notify(CHANNEL, bindparam("payload"))), {"payload": payload})
