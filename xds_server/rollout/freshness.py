"""Whether this replica may be behind another one: asked of the store whenever a stream is opened.

Replicas publish a revision some milliseconds apart, so a node that hops from one to the next could be sent what it had
before. Versions are hashes and cannot be ordered; the head row can.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from db import engine as engines
from db import head
from xds_server.rollout.publisher import Publisher

PATIENCE: Final = 2.0  # seconds that a stream waits for this replica to catch up
ASKING: Final = 1.0  # seconds for the store's answer

T = TypeVar("T")


class Freshness:
    """`await freshness()`: True once what is published is as new as the head that was read after the call.

    False if that cannot be told (the store does not answer), or not within PATIENCE. A revision that failed here is not
    waited for. Streams that are opened together share one read.
    """

    def __init__(self, engine: AsyncEngine, publisher: Publisher) -> None:
        self._publisher = publisher
        self._head = Shared(lambda: engines.run(engine, head.read, deadline=ASKING))

    async def __call__(self) -> bool:
        try:
            newest = await self._head()
            async with asyncio.timeout(PATIENCE):
                while not self._publisher.state.settled(newest):
                    await self._publisher.changed()
        except (engines.Unavailable, TimeoutError):
            return False
        return True


class Shared(Generic[T]):
    """Reads for many: whoever asks gets what a read found that began after the question, and a queue shares one."""

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._turn = asyncio.Lock()
        self._begun = 0
        self._found: tuple[int, T] | None = None

    async def __call__(self) -> T:
        """Raises what the read raises."""
        asked = self._begun
        async with self._turn:
            if self._found is None or self._found[0] <= asked:
                self._begun += 1
                number = self._begun
                self._found = (number, await self._read())
            return self._found[1]
