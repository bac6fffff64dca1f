from collections.abc import AsyncIterator

import pytest

from tests.policy.transport.methods import Running


@pytest.fixture(params=["grpcio", "fast"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with Running(request.param) as running:
        yield running


@pytest.fixture
async def fast() -> AsyncIterator[Running]:
    async with Running("fast") as running:
        yield running
