"""Real Valkey and PostgreSQL for the tests of the decision services: one a module, on Unix sockets, stopped by pid."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gwctl.up.postgres import Postgres
from gwctl.up.valkey import Valkey

# Servers are started by fork while gRPC's threads run here; its own fork handlers are for children that go on using it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """Not pytest's: another session of pytest closes that one for the user that PostgreSQL runs as."""
    with tempfile.TemporaryDirectory(prefix="tollhouse-test-") as made:
        yield Path(made)


@pytest.fixture(scope="module")
def valkey(directory: Path) -> Iterator[Valkey]:
    server = Valkey(directory / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def postgres(directory: Path) -> Iterator[Postgres]:
    server = Postgres(directory / "postgres", fast=True)
    server.start()
    yield server
    server.stop()
