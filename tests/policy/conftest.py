"""Real Valkey and PostgreSQL for the tests of the decision services: one a module, on Unix sockets, stopped by pid."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gwctl.up.postgres import Postgres
from gwctl.up.valkey import Valkey


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(Path(tmp_path_factory.mktemp("valkey")))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(Path(tmp_path_factory.mktemp("postgres")), fast=True)
    server.start()
    yield server
    server.stop()
