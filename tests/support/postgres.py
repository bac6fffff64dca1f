"""A real PostgreSQL for tests: one server a session, and a database in it that is emptied for each test."""

import asyncio
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from db import migrate, tables
from gwctl.up.postgres import Postgres

OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"


class Databases:
    """`fresh()` takes some 10 ms; one database at a time is in use."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._numbers = itertools.count()
        self._url = self.without_tables()
        asyncio.run(migrate.upgrade(self._url))

    def fresh(self) -> str:
        """The URL of a database as migrations leave it. Whoever still uses it from the test before is thrown out."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(OTHERS, [connection.info.dbname])
            connection.execute("SET session_replication_role = replica")  # the triggers that keep history are off
            names = sql.SQL(", ").join(map(sql.Identifier, tables.metadata.tables))
            connection.execute(sql.SQL("TRUNCATE {}").format(names))
            connection.execute("INSERT INTO head (id) VALUES (1)")
        return self._url

    def without_tables(self) -> str:
        """The URL of a database that nothing was done to yet."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.server.url.replace("/tollhouse?", f"/{name}?")


@contextmanager
def server(*, fast: bool = True) -> Iterator[Postgres]:
    """A running server in a directory of its own. `fast`: not made to survive a crash of the machine."""
    with tempfile.TemporaryDirectory(prefix="tollhouse-test-") as directory:
        postgres = Postgres(Path(directory) / "pg", fast=fast)
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()
