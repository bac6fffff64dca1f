"""Tokens of the control API. A token is 256 random bits, so a plain SHA-256 of it is stored and looked up.

Looking up a hash takes no time that depends on how much of a guess is right.
"""

import hashlib
import secrets
from datetime import datetime

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.rows import TokenRow

T = tables.admin_tokens.c
_COLUMNS = (T.id, T.name, T.role, T.created_at, T.expires_at, T.revoked_at, T.owner)


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


async def create(
    connection: AsyncConnection,
    *,
    name: str,
    role: str,
    token: str,
    expires_at: datetime | None = None,
    owner: str | None = None,
) -> TokenRow:
    """Stores the hash of `token`. `role`: one of those that the table knows."""
    values = {"id": f"t_{secrets.token_hex(8)}", "name": name, "role": role, "digest": digest(token), "owner": owner}
    stored = insert(tables.admin_tokens).values(**values, expires_at=expires_at).returning(*_COLUMNS)
    return TokenRow(**(await connection.execute(stored)).one()._mapping)


async def find(connection: AsyncConnection, token_digest: bytes) -> TokenRow | None:
    """The live token with this digest: neither revoked nor expired by the database's clock."""
    live = (T.digest == token_digest, T.revoked_at.is_(None), or_(T.expires_at.is_(None), T.expires_at > func.now()))
    found = (await connection.execute(select(*_COLUMNS).where(*live))).one_or_none()
    return None if found is None else TokenRow(**found._mapping)


async def live(connection: AsyncConnection) -> tuple[TokenRow, ...]:
    """All tokens that work now, by name."""
    query = select(*_COLUMNS).where(T.revoked_at.is_(None), or_(T.expires_at.is_(None), T.expires_at > func.now()))
    return tuple(TokenRow(**found._mapping) for found in await connection.execute(query.order_by(T.name, T.id)))


async def revoke(connection: AsyncConnection, token_id: str) -> bool:
    """Whether there was such a live token."""
    change = update(tables.admin_tokens).where(T.id == token_id, T.revoked_at.is_(None)).values(revoked_at=func.now())
    return (await connection.execute(change)).rowcount == 1
