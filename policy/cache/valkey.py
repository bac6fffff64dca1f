"""Answers in Valkey, shared by every decision service that uses it.

The counters lie in the same one, which evicts nothing (an evicted counter is a limit that is lifted) and so refuses
writes when it is full. Answers must never bring that about: they are written while less than half of its memory is in
use, looked at in the same script that writes, and not at all where Valkey has no bound (`maxmemory 0`).
"""

import hashlib
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from valkey.exceptions import NoScriptError

from policy.valkey.connection import Command, connect

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
SHA: Final = hashlib.sha1(WRITE.encode(), usedforsecurity=False).hexdigest()


class ValkeyStore:
    """`url`: as for the counters. `timeout`: seconds that one round trip may take."""

    def __init__(self, url: str, *, timeout: float = 0.075, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = connect(url, timeout=timeout, connections=CONNECTIONS, name="tollhouse-cache")
        self._clock = clock
        self._rests_until = 0.0

    async def get(self, place: bytes) -> bytes | None:
        found: bytes | None = await self._try(place, "GET", place)
        return found

    async def put(self, place: bytes, value: bytes, seconds: int) -> None:
        said = (1, place, value, seconds * 1000)
        if isinstance(await self._try(place, "EVALSHA", SHA, *said), NoScriptError):
            await self._try(place, "EVAL", WRITE, *said)

    async def drop(self, place: bytes) -> None:
        await self._try(place, "UNLINK", place)

    async def close(self) -> None:
        await self._server.close()

    async def _try(self, place: bytes, *words: str | bytes | int) -> Any:
        """The reply, or that the script is not there; None where Valkey fails or refuses."""
        if self._clock() < self._rests_until:
            return None
        try:
            [reply] = await self._server.send([Command(place, words)])
            if isinstance(reply, Exception) and not isinstance(reply, NoScriptError):
                raise reply
        except Exception as error:  # whatever it was, the upstream has the answer
            self._rests_until = self._clock() + REST
            log.warning("cache_lost", reason=" ".join(str(error).split())[:200] or type(error).__name__)
            return None
        return reply
