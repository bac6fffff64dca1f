"""The schema is what `db.tables` says, whoever made it and however many did so at once."""

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from db import engine as engines
from db import migrate
from db.tables import metadata
from tests.support.postgres import Databases


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


async def test_several_processes_may_migrate_at_once(databases: Databases) -> None:
    url = databases.without_tables()
    engine = engines.connect(url)
    assert not await migrate.at_head(engine)
    await asyncio.gather(*(migrate.upgrade(url) for _ in range(4)))
    assert await migrate.at_head(engine)
    await migrate.upgrade(url)
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT revision, keys_version FROM head"))).one() == (0, 0)
    await engine.dispose()


async def test_migrations_make_the_tables_of_the_code(url: str) -> None:
    engine = engines.connect(url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_a_newer_schema_is_left_alone(databases: Databases) -> None:
    url = databases.without_tables()
    await migrate.upgrade(url)
    engine = engines.connect(url)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RuntimeError, match="newer"):
        await migrate.upgrade(url)
    assert not await migrate.at_head(engine)
    await engine.dispose()


async def test_there_is_one_head_row_only(url: str) -> None:
    engine = engines.connect(url)
    with pytest.raises(Exception, match="ck_head_one_row"):
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO head (id) VALUES (2)"))
    await engine.dispose()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:canary@db/t", "postgresql://ann:***@db/t"),
        ("postgresql://ann@/t?host=/run/pg&password=canary", "postgresql://ann@/t?host=%2Frun%2Fpg&password=%2A%2A%2A"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert engines.masked(url) == shown
    assert "canary" not in repr(engines.connect(url))


def test_another_database_is_refused_without_its_password() -> None:
    with pytest.raises(ValueError, match="must be PostgreSQL") as caught:
        engines.connect("mysql://ann:canary@db/t")
    assert "canary" not in str(caught.value)
