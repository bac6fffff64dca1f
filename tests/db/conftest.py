from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from db import engine as engines
from tests.support import postgres
from tests.support.postgres import Databases


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    with postgres.server() as server:
        yield Databases(server)


@pytest.fixture
def url(databases: Databases) -> str:
    return databases.fresh()


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    made = engines.connect(url)
    yield made
    await made.dispose()
