"""Who calls the control API: bearer tokens, looked up by their SHA-256.

While the database cannot be reached, a token that it accepted a short time ago may still read (status is answered from
memory); whoever wants to change something is told to come back.
"""

import os
import secrets
import time
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from admin.problems import ApiError, unavailable
from db import audit, tokens
from db import engine as engines
from db import head as heads
from db.rows import TokenRow

PREFIX: Final = "gwt_"
BOOTSTRAP: Final = "bootstrap"
LONGEST: Final = 256  # characters of a token worth looking up
PATIENCE: Final = 1.5  # seconds for the look-up: the request itself needs the database after it
REMEMBERED_SECONDS: Final = 900.0
REMEMBERED: Final = 1000


def mint() -> str:
    """256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


async def ensure(engine: AsyncEngine) -> str | None:
    """The first token of an installation: its text, once (a hash is stored). None if an admin token works already.

    Replicas that start together make one: they take turns at the head row.
    """

    async def work(connection: AsyncConnection) -> str | None:
        await heads.lock(connection)
        if any(row.role == "admin" for row in await tokens.live(connection)):
            return None
        text = mint()
        row = await tokens.create(connection, name=BOOTSTRAP, role="admin", token=text)
        await audit.append(connection, actor="bootstrap", action="admin_token.create", object=row.id)
        return text

    return await engines.run(engine, work)


def write(path: Path, text: str) -> None:
    """The token into a file that only its owner reads, replacing what is there in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    temporary.replace(path)


class Tokens:
    """Answers who a bearer token belongs to."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._seen: OrderedDict[bytes, tuple[TokenRow, float]] = OrderedDict()

    async def authenticate(self, authorization: str | None, *, reads_only: bool) -> TokenRow:
        """The live token in an `Authorization` header. Raises ApiError 401, or 503 when nobody can tell."""
        digest = tokens.digest(_bearer(authorization))
        try:
            row = await engines.run(self._engine, lambda c: tokens.find(c, digest), deadline=PATIENCE)
        except engines.Unavailable as error:
            remembered = self._remembered(digest) if reads_only else None
            if remembered is None:
                raise unavailable() from error
            return remembered
        if row is None:
            self._seen.pop(digest, None)
            raise unauthenticated("the token is unknown, expired or revoked")
        self._remember(digest, row)
        return row

    def _remember(self, digest: bytes, row: TokenRow) -> None:
        self._seen[digest] = (row, time.monotonic())
        self._seen.move_to_end(digest)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def _remembered(self, digest: bytes) -> TokenRow | None:
        row, seen = self._seen.get(digest, (None, 0.0))
        if row is None or time.monotonic() - seen > REMEMBERED_SECONDS:
            return None
        return row if row.expires_at is None or row.expires_at > datetime.now(UTC) else None


def unauthenticated(detail: str) -> ApiError:
    """RFC 6750 section 3."""
    return ApiError(401, "unauthenticated", detail, headers={"www-authenticate": 'Bearer realm="tollhouse"'})


def _bearer(authorization: str | None) -> str:
    scheme, _, text = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise unauthenticated("send the header `Authorization: Bearer TOKEN`")
    if len(text) > LONGEST:
        raise unauthenticated("the token is unknown, expired or revoked")
    return text.strip()
