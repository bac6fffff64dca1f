"""Bringing a database to the newest schema. The migrations are in this package, so the wheel has them."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from db import engine as engines

SCRIPTS: Final = Path(__file__).parent / "migrations"
LOCK: Final = 0x746F6C6C  # any number, the same in all our processes: "toll"


async def upgrade(url: str) -> None:
    """To the newest schema, all or nothing; processes that start together wait for one another.

    Raises db.engine.Unavailable, or RuntimeError for a database that a newer version of ours has written.
    """
    engine = engines.connect(url, pool_size=1)
    try:
        await engines.run(engine, lambda connection: connection.run_sync(_upgrade), deadline=120)
    finally:
        await engine.dispose()


async def at_head(engine: AsyncEngine) -> bool:
    """Whether the schema is the one that this code was written for."""
    return await engines.run(engine, lambda connection: connection.run_sync(_is_at_head))


def _upgrade(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    known = {script.revision for script in ScriptDirectory(str(SCRIPTS)).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise RuntimeError(f"the database's schema {current} is newer than this version of Tollhouse knows")
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _is_at_head(connection: Connection) -> bool:
    current = MigrationContext.configure(connection).get_current_revision()
    return current == ScriptDirectory(str(SCRIPTS)).get_current_head()
