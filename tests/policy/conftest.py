"""Real Valkey for the tests of the decision services: one a module, on a Unix socket, stopped by its pid."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gwctl.up.valkey import Valkey


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(Path(tmp_path_factory.mktemp("valkey")))
    server.start()
    yield server
    server.stop()
