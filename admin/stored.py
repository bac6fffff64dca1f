"""Objects of a revision as the language sees them."""

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from admin.problems import not_found
from db import engine as engines
from db import revisions
from gateway.document import Object
from xds_server.rollout.stored import from_row


async def objects_of(engine: AsyncEngine, number: int) -> tuple[Object, ...]:
    """Raises ApiError 404."""

    async def work(connection: AsyncConnection) -> tuple[Object, ...]:
        return tuple(map(from_row, await revisions.load(connection, number)))

    try:
        return await engines.run(engine, work)
    except revisions.NotFound as error:
        raise not_found(f"revision {number}") from error
