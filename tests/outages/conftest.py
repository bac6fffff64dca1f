import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.outages.running import Site


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """PostgreSQL and one control plane `a` with a document applied. PostgreSQL's user cannot enter pytest's own."""
    with tempfile.TemporaryDirectory(prefix="tollhouse-test-") as directory, ExitStack() as stack:
        made = Site(Path(directory), stack)
        made.postgres.start()
        made.plane("a").start()
        made.apply("a", "first")
        yield made
