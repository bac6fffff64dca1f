"""Where answers lie: bytes under a key for a while. A store that fails is a store that has nothing."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

LARGEST: Final = 64 * 2**20


class Store(Protocol):
    """None of these raises: what cannot be read is not there, what cannot be written is not kept."""

    async def get(self, place: bytes) -> bytes | None: ...

    async def put(self, place: bytes, value: bytes, seconds: int) -> None: ...

    async def drop(self, place: bytes) -> None: ...

    async def close(self) -> None: ...


class MemoryStore:
    """In this process, at most `largest` bytes; what was not asked for longest goes first."""

    def __init__(self, largest: int = LARGEST, clock: Callable[[], float] = time.monotonic) -> None:
        self._largest = largest
        self._clock = clock
        self._held: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._size = 0

    async def get(self, place: bytes) -> bytes | None:
        found = self._held.get(place)
        if found is None:
            return None
        until, value = found
        if until <= self._clock():
            self._remove(place)
            return None
        self._held.move_to_end(place)
        return value

    async def put(self, place: bytes, value: bytes, seconds: int) -> None:
        self._remove(place)
        if len(value) > self._largest:
            return
        self._held[place] = (self._clock() + seconds, value)
        self._size += len(value)
        while self._size > self._largest:
            self._remove(next(iter(self._held)))

    async def drop(self, place: bytes) -> None:
        self._remove(place)

    async def close(self) -> None:
        self._held.clear()
        self._size = 0

    def _remove(self, place: bytes) -> None:
        found = self._held.pop(place, None)
        if found is not None:
            self._size -= len(found[1])
