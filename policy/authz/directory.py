"""API keys in PostgreSQL, as this room sees them."""

import ipaddress
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from db import engine as engines
from db import keys
from db.rows import KeyRow
from policy.authz.identity import KeyRecord, Previous
from policy.unavailable import Unavailable


class KeyTable:
    """What `KeyStore` stands in front of. A look-up waits for the database at most `deadline` seconds."""

    def __init__(self, engine: AsyncEngine, deadline: float = 2.0) -> None:
        self._engine = engine
        self._deadline = deadline

    async def key(self, key_id: str) -> KeyRecord | None:
        try:
            row = await engines.run(self._engine, lambda c: keys.get(c, key_id), deadline=self._deadline)
        except engines.Unavailable as error:
            raise Unavailable("the key table cannot be reached") from error
        return None if row is None else record(row)

    async def changes_since(self, version: int) -> tuple[str, ...]:
        """Ids of the keys that changed after a version of the head. Raises Unavailable."""
        try:
            return await engines.run(self._engine, lambda c: keys.changes_since(c, version))
        except engines.Unavailable as error:
            raise Unavailable("the key table cannot be reached") from error

    async def touch(self, used: Mapping[str, datetime]) -> None:
        """Notes when keys were last used. Raises Unavailable."""
        try:
            await engines.run(self._engine, lambda c: keys.touch_last_used(c, used))
        except engines.Unavailable as error:
            raise Unavailable("the key table cannot be reached") from error

    async def rehash(self, made: Sequence[keys.Rehash]) -> None:
        """Stores digests under a newer pepper, of keys whose digest is still the old one. Raises Unavailable."""
        try:
            await engines.run(self._engine, lambda c: keys.rehash(c, made))
        except engines.Unavailable as error:
            raise Unavailable("the key table cannot be reached") from error


def record(row: KeyRow) -> KeyRecord:
    return KeyRecord(
        id=row.id,
        consumer=row.consumer,
        tier=row.tier,
        scopes=row.scopes,
        digest=bytes(row.digest),
        pepper_version=row.pepper_version,
        expires_at=row.expires_at.timestamp() if row.expires_at else None,
        revoked=row.revoked_at is not None,
        disabled=row.disabled_at is not None,
        networks=tuple(ipaddress.ip_network(network) for network in row.allowed_ips),
        previous=_previous(row),
    )


def _previous(row: KeyRow) -> Previous | None:
    if row.previous_digest is None or row.previous_pepper_version is None or row.previous_until is None:
        return None
    return Previous(bytes(row.previous_digest), row.previous_pepper_version, row.previous_until.timestamp())
