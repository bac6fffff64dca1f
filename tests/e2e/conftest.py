import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import Lab, start


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory for a running gateway. Not pytest's: each new session closes that to PostgreSQL's user."""
    with tempfile.TemporaryDirectory(prefix="tollhouse-test-") as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def lab(home: Path) -> Iterator[Lab]:
    """One laboratory for all tests of a module."""
    yield from start(home)
