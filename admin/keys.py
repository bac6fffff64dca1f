"""API keys of consumers: made here and shown once, listed, changed, rotated, revoked."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from admin.problems import ApiError, not_found, refused
from db import audit, keys, revisions
from db import engine as engines
from db.rows import KeyRow
from policy.authz import keys as texts
from policy.authz import peppers
from policy.authz.peppers import Peppers

DEFAULT_LIFETIME: Final = timedelta(days=90)


@dataclass(frozen=True)
class NewKey:
    """`lifetime` None: it never expires. `consumer`: the id of an existing one, else a new one named like the key."""

    name: str
    tier: str | None
    scopes: Sequence[str] = ()
    lifetime: timedelta | None = DEFAULT_LIFETIME
    consumer: str | None = None
    allowed_ips: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rotation:
    """`overlap`: how long the secret that is replaced still works. `lifetime`: a new one for the key, from now.

    `keep_expiry`: its end stays what it is instead.
    """

    overlap: timedelta
    lifetime: timedelta | None = None
    keep_expiry: bool = True


class Keys:
    """`pepper_version`: of the pepper that new digests are made with."""

    def __init__(self, engine: AsyncEngine, known: Peppers) -> None:
        self._engine = engine
        self.pepper_version, self._pepper = peppers.newest(known)

    async def create(self, actor: str, wanted: NewKey) -> tuple[KeyRow, str]:
        """The stored key and its text, which nobody can see again. Raises ApiError 422."""
        minted = texts.mint(self._pepper)
        expires = datetime.now(UTC) + wanted.lifetime if wanted.lifetime is not None else None

        async def work(connection: AsyncConnection) -> KeyRow:
            consumer, tier = await _consumer(connection, wanted)
            row = await keys.create(
                connection,
                id=minted.id,
                consumer=consumer,
                name=wanted.name,
                prefix=minted.prefix,
                digest=minted.digest,
                pepper_version=self.pepper_version,
                scopes=wanted.scopes,
                expires_at=expires,
                allowed_ips=wanted.allowed_ips,
                labels=wanted.labels,
            )
            detail = {"consumer": consumer, "tier": tier, "scopes": list(wanted.scopes), "name": wanted.name}
            await audit.append(connection, actor=actor, action="key.create", object=row.id, detail=detail)
            return row

        return await engines.run(self._engine, work), minted.text

    async def page(self, limit: int, after: str | None, consumer: str | None) -> tuple[KeyRow, ...]:
        async def work(connection: AsyncConnection) -> tuple[KeyRow, ...]:
            return await keys.page(connection, limit=limit, after=after, consumer=consumer)

        return await engines.run(self._engine, work)

    async def get(self, key_id: str) -> KeyRow:
        """Raises ApiError 404."""
        row = await engines.run(self._engine, lambda connection: keys.get(connection, key_id))
        if row is None:
            raise not_found(f"key {key_id!r}")
        return row

    async def change(self, actor: str, key_id: str, values: Mapping[str, Any]) -> KeyRow:
        """`values`: what `db.keys.change` takes. Raises ApiError 404, or 409 for a revoked key."""

        async def work(connection: AsyncConnection) -> KeyRow:
            await _alive(connection, key_id)
            row = await keys.change(connection, key_id, values)
            if row is None:
                raise not_found(f"key {key_id!r}")
            await audit.append(connection, actor=actor, action="key.change", object=key_id, detail=dict(values))
            return row

        return await engines.run(self._engine, work)

    async def rotate(self, actor: str, key_id: str, wanted: Rotation) -> tuple[KeyRow, str]:
        """The key with its new text, which nobody can see again. Raises ApiError 404, or 409 for a revoked key."""
        now = datetime.now(UTC)

        async def work(connection: AsyncConnection) -> tuple[KeyRow, str]:
            before = await _alive(connection, key_id)
            minted = texts.remint(self._pepper, before.prefix)
            until = now + wanted.overlap
            expires = before.expires_at if wanted.keep_expiry else now + wanted.lifetime if wanted.lifetime else None
            row = await keys.rotate(
                connection,
                key_id,
                digest=minted.digest,
                pepper_version=self.pepper_version,
                until=until,
                expires_at=expires,
            )
            if row is None:
                raise not_found(f"key {key_id!r}")
            detail = {"old_works_until": until.isoformat()}
            await audit.append(connection, actor=actor, action="key.rotate", object=key_id, detail=detail)
            return row, minted.text

        return await engines.run(self._engine, work)

    async def revoke(self, actor: str, key_id: str) -> KeyRow:
        """For good; revoking again changes nothing. Raises ApiError 404."""

        async def work(connection: AsyncConnection) -> KeyRow:
            row = await keys.revoke(connection, key_id)
            if row is None:
                raise not_found(f"key {key_id!r}")
            await audit.append(connection, actor=actor, action="key.revoke", object=key_id)
            return row

        return await engines.run(self._engine, work)


async def _alive(connection: AsyncConnection, key_id: str) -> KeyRow:
    row = await keys.get(connection, key_id)
    if row is None:
        raise not_found(f"key {key_id!r}")
    if row.revoked_at is not None:
        raise ApiError(409, "key_revoked", f"key {key_id} is revoked, for good: create another one")
    return row


async def _consumer(connection: AsyncConnection, wanted: NewKey) -> tuple[str, str]:
    """The id and tier of whom the key is for."""
    if wanted.consumer is not None:
        return await _existing(connection, wanted)
    if wanted.tier is None:
        raise refused("/tier", "a key for a new consumer needs a tier")
    tiers = await _tiers(connection)
    if wanted.tier not in tiers:
        raise unknown_tier("/tier", wanted.tier, tiers)
    created = await keys.create_consumer(connection, name=wanted.name, tier=wanted.tier)
    return created.id, created.tier


async def _existing(connection: AsyncConnection, wanted: NewKey) -> tuple[str, str]:
    found = await keys.consumer(connection, wanted.consumer or "")
    if found is None:
        raise refused("/consumer", f"there is no consumer {wanted.consumer!r}")
    if wanted.tier not in (None, found.tier):
        raise refused("/tier", f"consumer {found.id} is of tier {found.tier}, not {wanted.tier}")
    return found.id, found.tier


async def _tiers(connection: AsyncConnection) -> tuple[str, ...]:
    head = await revisions.head(connection)
    objects = await revisions.load(connection, head.revision)
    return tuple(name for item in objects if item.kind == "tiers" for name in item.body)


def unknown_tier(pointer: str, tier: str, tiers: Iterable[str]) -> ApiError:
    return refused(pointer, f"there is no tier {tier!r}", suggestion(tier, tiers))


def suggestion(word: str, known: Iterable[str]) -> str:
    names = tuple(known)
    close = difflib.get_close_matches(word, names, 1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there is {', '.join(names)}" if names else "apply a gateway first"
