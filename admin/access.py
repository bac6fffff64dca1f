"""Tokens of the control API itself: who may call, in which role, until when."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from admin import tokens as texts
from admin.problems import ApiError, not_found, refused
from admin.roles import ADMIN, AUTHOR
from db import audit, tokens
from db import engine as engines
from db import head as heads
from db.rows import TokenRow


@dataclass(frozen=True)
class NewToken:
    """`owner`: whose objects an author may apply. `life`: None for ever."""

    name: str
    role: str
    owner: str | None
    life: timedelta | None


class Access:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def live(self) -> tuple[TokenRow, ...]:
        return await engines.run(self._engine, tokens.live)

    async def create(self, actor: str, wanted: NewToken) -> tuple[TokenRow, str]:
        """The token's text is in this answer and nowhere else. Raises ApiError 422."""
        if (wanted.role == AUTHOR) != (wanted.owner is not None):
            raise refused("/owner", "an author has an owner, and nobody else has one")
        text = texts.mint()

        async def work(connection: AsyncConnection) -> TokenRow:
            expires = None if wanted.life is None else datetime.now(UTC) + wanted.life
            row = await tokens.create(
                connection, name=wanted.name, role=wanted.role, token=text, expires_at=expires, owner=wanted.owner
            )
            detail = {"name": row.name, "role": row.role, "owner": row.owner}
            await audit.append(connection, actor=actor, action="admin_token.create", object=row.id, detail=detail)
            return row

        return await engines.run(self._engine, work), text

    async def revoke(self, actor: str, token_id: str) -> TokenRow:
        """Raises ApiError 404 for none that works, 409 for the last one of an admin: nobody could get in again."""

        async def work(connection: AsyncConnection) -> TokenRow:
            await heads.lock(connection)  # two admins that revoke each other take turns
            live = {row.id: row for row in await tokens.live(connection)}
            row = live.get(token_id)
            if row is None:
                raise not_found(f"token {token_id} that works")
            lasting = [one for one in live.values() if one.role == ADMIN and one.expires_at is None]
            if lasting == [row]:
                raise ApiError(409, "last_admin", "this is the last token of an admin that does not expire")
            await tokens.revoke(connection, token_id)
            await audit.append(connection, actor=actor, action="admin_token.revoke", object=token_id)
            return row

        return await engines.run(self._engine, work)
