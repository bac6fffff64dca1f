"""Databases for tests: one real server a session, a database of its own for each test, already migrated."""

import asyncio
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from db import migrate
from gwctl.up.postgres import Postgres

TEMPLATE = "template_tollhouse"


class Databases:
    """`fresh()` copies a migrated database: some 30 ms."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._numbers = itertools.count()
        self._execute(f"CREATE DATABASE {TEMPLATE}")
        asyncio.run(migrate.upgrade(self._url(TEMPLATE)))

    def fresh(self, template: str = TEMPLATE) -> str:
        """The URL of a new database; `template1` for one without our tables."""
        name = f"test_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._url(name)

    def _url(self, name: str) -> str:
        return self.server.url.replace("/tollhouse?", f"/{name}?")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute(statement)


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
