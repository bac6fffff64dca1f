"""Answers in Valkey, shared by every decision service that uses it.

The counters lie in the same one, which evicts nothing (an evicted counter is a limit that is lifted) and so refuses
writes when it is full. Answers must never bring that about: they are written while less than half of its memory is in
use, looked at in the same script that writes, and not at all where Valkey has no bound (`maxmemory 0`).
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog
from valkey.asyncio import BlockingConnectionPool, Valkey

T = TypeVar("T")

log = structlog.get_logger(__name__)

CONNECTIONS: Final = 8
REST: Final = 1.0
"""Seconds for which nobody asks a Valkey that has failed: a request would wait for it in vain."""

WRITE: Final = """
local memory = server.call('INFO', 'memory')
local used = tonumber(string.match(memory, 'used_memory:(%d+)'))
local most = tonumber(string.match(memory, 'maxmemory:(%d+)'))
if used + #ARGV[1] > most / 2 then return 0 end
server.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class ValkeyStore:
    """`url`: as for the counters. `timeout`: seconds that one round trip may take."""

    def __init__(self, url: str, *, timeout: float = 0.075, clock: Callable[[], float] = time.monotonic) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            client_name="tollhouse-cache",
        )
        self._client: Any = Valkey.from_pool(pool)  # its commands have no types
        self._write = self._client.register_script(WRITE)
        self._clock = clock
        self._rests_until = 0.0

    async def get(self, place: bytes) -> bytes | None:
        return await self._try(lambda: self._client.get(place), None)

    async def put(self, place: bytes, value: bytes, seconds: int) -> None:
        await self._try(lambda: self._write(keys=[place], args=[value, seconds * 1000]), 0)

    async def drop(self, place: bytes) -> None:
        await self._try(lambda: self._client.unlink(place), 0)

    async def close(self) -> None:
        await self._client.aclose()

    async def _try(self, ask: Callable[[], Awaitable[T]], otherwise: T) -> T:
        if self._clock() < self._rests_until:
            return otherwise
        try:
            return await ask()
        except Exception as error:  # whatever it was, the upstream has the answer
            self._rests_until = self._clock() + REST
            log.warning("cache_lost", reason=" ".join(str(error).split())[:200] or type(error).__name__)
            return otherwise
