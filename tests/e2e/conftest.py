from collections.abc import Iterator

import pytest

from tests.support.lab import Lab, start


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One laboratory for all tests of a module."""
    yield from start(tmp_path_factory.mktemp("lab"))
