"""Instances of services: registered, kept by heartbeats, drained, removed, and forgotten when heartbeats stay away.

A real change counts `endpoints_version` up in its own transaction and tells listeners. A heartbeat that changes nothing
but its expiry is one UPDATE of one row: it locks nothing else and wakes nobody. All times are the database's.

Locks are taken in one order, the endpoint's row before the version before the head (which the audit log takes).
"""

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.rows import EndpointRow
from db.watch import Followed, Watch

CHANNEL: Final = "tollhouse_endpoints"
E = tables.endpoints.c
V = tables.endpoints_version

SWEPT_VERSION: Final = f"""
WITH expired AS (
    DELETE FROM endpoints WHERE (service, instance) IN (
        SELECT service, instance FROM endpoints WHERE expires_at <= now() AND (state = 'draining' OR
            (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()) + ttl * interval '1 s' <= now())
        FOR UPDATE SKIP LOCKED
    ) RETURNING 1
), counted AS (
    UPDATE endpoints_version SET version = version + 1 WHERE EXISTS (SELECT 1 FROM expired)
    RETURNING version, pg_notify('{CHANNEL}', version::text)
)
SELECT coalesce((SELECT version FROM counted), (SELECT version FROM endpoints_version), 0)
"""  # noqa: S608 - the one word that is put in is ours
"""Who looks at the version removes what has expired first: an expiry is a change like any other, for every replica.

Every instance is given its time from when this session began: while the database or the control plane was away nobody
could send a heartbeat, and that must empty no service. SKIP LOCKED: a heartbeat that is on its way wins, and two who
sweep at once do not wait for each other.
"""


@dataclass(frozen=True, slots=True)
class Registration:
    """What an instance says of itself. `ttl`: seconds until the next heartbeat must have come, None for none."""

    service: str
    instance: str
    address: str
    port: int
    owner: str
    weight: int = 1
    zone: str | None = None
    priority: int = 0
    state: str = "healthy"
    ttl: float | None = 30.0
    labels: dict[str, str] = field(default_factory=dict)


def watch(url: str, *, poll: float = 1.0, patience: float = 3.0) -> Watch[int]:
    """The version as it changes, and the one who makes expired instances go."""
    return Watch(url, Followed(CHANNEL, SWEPT_VERSION, int), poll=poll, patience=patience)


async def heartbeat(connection: AsyncConnection, said: Registration) -> EndpointRow | None:
    """Only moves the expiry, and only if that is all that is new; None if there is more to do.

    An instance that drains goes on draining, whatever it says; its time is not moved.
    """
    draining = (E.service == said.service) & (E.instance == said.instance) & (E.state == "draining")
    same = [E[name].is_not_distinct_from(value) for name, value in _values(said).items()]
    beat = update(tables.endpoints).where(*same).values(expires_at=_expiry(said.ttl))
    found = (await connection.execute(beat.returning(*tables.endpoints.c))).one_or_none()
    found = found or (await connection.execute(_select().where(draining))).one_or_none()
    return _row(found) if found is not None else None


async def register(connection: AsyncConnection, said: Registration) -> EndpointRow:
    """A new instance, or one that says something new."""
    values: dict[str, Any] = {**_values(said), "expires_at": _expiry(said.ttl), "owner": said.owner}
    put = insert(tables.endpoints).values(values)
    keys = [tables.endpoints.c.service, tables.endpoints.c.instance]
    changed = put.on_conflict_do_update(index_elements=keys, set_=values).returning(*tables.endpoints.c)
    row = _row((await connection.execute(changed)).one())
    await _count(connection)
    return row


async def drain(connection: AsyncConnection, service: str, instance: str, seconds: float) -> EndpointRow | None:
    """No new requests from now on, and gone after `seconds`. None if there is no such instance."""
    change = update(tables.endpoints).where(E.service == service, E.instance == instance)
    change = change.values(state="draining", expires_at=_expiry(seconds))
    found = (await connection.execute(change.returning(*tables.endpoints.c))).one_or_none()
    if found is None:
        return None
    await _count(connection)
    return _row(found)


async def deregister(connection: AsyncConnection, service: str, instance: str) -> bool:
    """Whether it was there."""
    gone = delete(tables.endpoints).where(E.service == service, E.instance == instance)
    if not (await connection.execute(gone)).rowcount:
        return False
    await _count(connection)
    return True


async def every(connection: AsyncConnection, service: str | None = None) -> tuple[EndpointRow, ...]:
    """All that are there, or those of one service: the newest registrations of a service first."""
    query = _select() if service is None else _select().where(E.service == service)
    return tuple(map(_row, await connection.execute(query)))


async def version(connection: AsyncConnection) -> int:
    return (await connection.execute(select(V.c.version))).scalar_one_or_none() or 0


async def _count(connection: AsyncConnection) -> None:
    put = insert(V).values(id=1, version=1)
    counted = put.on_conflict_do_update(index_elements=[V.c.id], set_={"version": V.c.version + 1})
    number = (await connection.execute(counted.returning(V.c.version))).scalar_one()
    await connection.execute(select(func.pg_notify(CHANNEL, bindparam("payload"))), {"payload": str(number)})


def _values(said: Registration) -> dict[str, Any]:
    names = ("service", "instance", "address", "port", "weight", "zone", "priority", "state", "ttl")
    return {name: getattr(said, name) for name in names} | {"labels": json.dumps(said.labels, sort_keys=True)}


def _expiry(seconds: float | None) -> ColumnElement[Any] | None:
    return None if seconds is None else func.now() + timedelta(seconds=seconds)


def _select() -> Select[Any]:
    return select(tables.endpoints).order_by(E.service, E.registered_at.desc(), E.instance)


def _row(found: Any) -> EndpointRow:
    return EndpointRow(**{**found._mapping, "labels": json.loads(found.labels)})
