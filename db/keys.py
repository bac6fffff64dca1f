"""Consumers and their API keys.

Every change gives the keys that it touches a new `keys_version`, taken from the head row under its lock, so that
whoever holds keys in memory asks for "what changed since" and misses nothing.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Select

from db import head as heads
from db import tables
from db.rows import ConsumerRow, Head, KeyRow

K = tables.api_keys.c


@dataclass(frozen=True, slots=True)
class Rehash:
    """A key whose digest under an older pepper (`old`) is to become `new`, under the pepper of `pepper_version`."""

    key_id: str
    old: bytes = field(repr=False)
    new: bytes = field(repr=False)
    pepper_version: int


async def create_consumer(connection: AsyncConnection, *, name: str, tier: str) -> ConsumerRow:
    """A new consumer with an id of its own; names need not be unique."""
    values = {"id": f"c_{secrets.token_hex(8)}", "name": name, "tier": tier}
    found = (await connection.execute(insert(tables.consumers).values(values).returning(*tables.consumers.c))).one()
    return ConsumerRow(**found._mapping)


async def consumer(connection: AsyncConnection, consumer_id: str) -> ConsumerRow | None:
    query = select(tables.consumers).where(tables.consumers.c.id == consumer_id)
    found = (await connection.execute(query)).one_or_none()
    return None if found is None else ConsumerRow(**found._mapping)


async def set_tier(connection: AsyncConnection, consumer_id: str, tier: str) -> ConsumerRow | None:
    """Moves a consumer, and with it all its keys, to another tier; None when there is no such consumer."""
    version = await _next_version(connection)
    change = update(tables.consumers).where(tables.consumers.c.id == consumer_id).values(tier=tier)
    found = (await connection.execute(change.returning(*tables.consumers.c))).one_or_none()
    await connection.execute(update(tables.api_keys).where(K.consumer == consumer_id).values(keys_version=version))
    return None if found is None else ConsumerRow(**found._mapping)


async def create(
    connection: AsyncConnection,
    *,
    id: str,  # noqa: A002 - the row's word
    consumer: str,
    name: str,
    prefix: str,
    digest: bytes,
    pepper_version: int,
    scopes: Sequence[str] = (),
    expires_at: datetime | None = None,
    allowed_ips: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
) -> KeyRow:
    """Stores a key that the caller has minted; `digest` is all that is known of it here."""
    version = await _next_version(connection)
    await connection.execute(
        insert(tables.api_keys).values(
            id=id, consumer=consumer, name=name, prefix=prefix, digest=digest, pepper_version=pepper_version,
            scopes=list(scopes), expires_at=expires_at, keys_version=version, allowed_ips=list(allowed_ips),
            labels=json.dumps(labels or {}),
        )
    )  # fmt: skip
    created = await get(connection, id)
    if created is None:
        raise RuntimeError("a row that was just inserted is not there")
    return created


async def get(connection: AsyncConnection, key_id: str) -> KeyRow | None:
    """A key by its id, revoked and expired ones included."""
    found = (await connection.execute(_select().where(K.id == key_id))).one_or_none()
    return None if found is None else _row(found)


async def get_many(connection: AsyncConnection, key_ids: Sequence[str]) -> tuple[KeyRow, ...]:
    return tuple(_row(found) for found in await connection.execute(_select().where(K.id.in_(key_ids))))


async def page(
    connection: AsyncConnection, *, limit: int = 100, after: str | None = None, consumer: str | None = None
) -> tuple[KeyRow, ...]:
    """Keys by id; `after`: only ids that sort behind it."""
    query = _select().order_by(K.id).limit(limit)
    if after is not None:
        query = query.where(K.id > after)
    if consumer is not None:
        query = query.where(K.consumer == consumer)
    return tuple(_row(found) for found in await connection.execute(query))


async def revoke(connection: AsyncConnection, key_id: str) -> KeyRow | None:
    """Revokes for good; the moment of a first revocation stays. None when there is no such key."""
    version = await _next_version(connection)
    change = update(tables.api_keys).where(K.id == key_id, K.revoked_at.is_(None))
    await connection.execute(change.values(revoked_at=func.now(), keys_version=version))
    return await get(connection, key_id)


async def change(connection: AsyncConnection, key_id: str, values: Mapping[str, Any]) -> KeyRow | None:
    """Sets what `values` has of `name`, `scopes`, `allowed_ips`, `labels` and `disabled`; None: there is no such key.

    Being disabled again does not move the moment of the first time.
    """
    version = await _next_version(connection)
    stored: dict[str, Any] = {name: values[name] for name in ("name", "scopes", "allowed_ips") if name in values}
    if "labels" in values:
        stored["labels"] = json.dumps(values["labels"])
    if "disabled" in values:
        stored["disabled_at"] = func.coalesce(K.disabled_at, func.now()) if values["disabled"] else None
    await connection.execute(update(tables.api_keys).where(K.id == key_id).values(**stored, keys_version=version))
    return await get(connection, key_id)


async def rotate(
    connection: AsyncConnection,
    key_id: str,
    *,
    digest: bytes,
    pepper_version: int,
    until: datetime,
    expires_at: datetime | None,
) -> KeyRow | None:
    """Gives a key another secret; the one that it had works until `until`, and one before that no more.

    None when there is no such key, or a revoked one.
    """
    version = await _next_version(connection)
    rotated = update(tables.api_keys).where(K.id == key_id, K.revoked_at.is_(None))
    found = await connection.execute(
        rotated.values(
            digest=digest, pepper_version=pepper_version, expires_at=expires_at, keys_version=version,
            previous_digest=K.digest, previous_pepper_version=K.pepper_version, previous_until=until,
        )
    )  # fmt: skip
    return await get(connection, key_id) if found.rowcount else None


async def rehash(connection: AsyncConnection, made: Sequence[Rehash]) -> None:
    """Not a change of the keys: whoever holds an old digest in memory can go on with it, so their version stays."""
    for one in sorted(made, key=lambda rehashed: rehashed.key_id):  # one order: no deadlock
        held = update(tables.api_keys).where(K.id == one.key_id, K.digest == one.old)
        await connection.execute(held.values(digest=one.new, pepper_version=one.pepper_version))


async def changes_since(connection: AsyncConnection, version: int) -> tuple[str, ...]:
    """Ids of the keys that changed after `version` (a `Head.keys_version` seen before)."""
    query = select(K.id).where(K.keys_version > version).order_by(K.keys_version, K.id)
    return tuple((await connection.execute(query)).scalars())


async def touch_last_used(connection: AsyncConnection, used: Mapping[str, datetime]) -> None:
    """Notes when keys were last used; never moves a time back. Not a change of the keys: their version stays."""
    if not used:
        return
    when: Any = bindparam("used_at")
    change = update(tables.api_keys).where(
        K.id == bindparam("key_id"), or_(K.last_used_at.is_(None), K.last_used_at < when)
    )
    rows = [{"key_id": key_id, "used_at": at} for key_id, at in sorted(used.items())]  # one order: no deadlock
    await connection.execute(change.values(last_used_at=when), rows)


async def _next_version(connection: AsyncConnection) -> int:
    locked = await heads.lock(connection)
    version = locked.head.keys_version + 1
    await heads.advance(connection, Head(locked.head.revision, version))
    return version


def _select() -> Select[Any]:
    joined = tables.api_keys.join(tables.consumers, K.consumer == tables.consumers.c.id)
    return select(tables.api_keys, tables.consumers.c.tier).select_from(joined)


def _row(found: Any) -> KeyRow:
    lists = {"scopes": tuple(found.scopes), "allowed_ips": tuple(found.allowed_ips)}
    return KeyRow(**{**found._mapping, **lists, "labels": json.loads(found.labels)})
