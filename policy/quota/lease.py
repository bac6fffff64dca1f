"""Which of several decision services shares out quotas: the one that holds the lease in Valkey.

Who cannot renew it stops before it runs out, so that never two of them give out the same tokens.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from policy.valkey.connection import Command, connect

log = structlog.get_logger(__name__)

KEY: Final = "quota:lease"
LENGTH: Final = 5.0
EVERY: Final = 1.0
TAKE: Final = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Lease:
    """`url`: of Valkey. `changed` is told whenever this process gets the lease or is without it again.

    It lasts `length` seconds and is asked for `every` so many.
    """

    def __init__(
        self, url: str, changed: Callable[[bool], Awaitable[None]], length: float = LENGTH, every: float = EVERY
    ) -> None:
        self._server = connect(url, timeout=every, connections=1, name="tollhouse-quotas")
        self._changed = changed
        self._length, self._every = length, every
        self._holder = secrets.token_hex(16)
        self._held = False
        self._until = 0.0
        self._closed = False

    async def run(self) -> None:
        """Until `close`."""
        while not self._closed:
            await self._ask()
            await asyncio.sleep(self._every)

    async def close(self) -> None:
        """So that another one need not wait; what fails here the lease's end will do."""
        self._closed = True
        if self._held:
            await self._sent(RELEASE)
        await self._server.close()

    async def _ask(self) -> None:
        """It lasts from before it was asked for: a slow answer makes it shorter, never longer."""
        asked = time.monotonic()
        answer = asyncio.ensure_future(self._sent(TAKE, int(self._length * 1000)))
        await asyncio.wait({answer}, timeout=self._every)
        if not answer.done():
            answer.cancel()
        elif answer.result():
            self._until = asked + self._length
        await self._is(time.monotonic() < self._until - 2 * self._every)  # the next look is as far away as that

    async def _sent(self, script: str, *arguments: int) -> bool:
        words: list[str | int] = ["EVAL", script, 1, KEY, self._holder, *arguments]
        try:
            [reply] = await self._server.send([Command(KEY, words)])
        except Exception as error:
            reply = error
        if isinstance(reply, Exception):
            log.warning("quota_lease_not_reached", reason=type(reply).__name__, held=self._held)
            return False
        return bool(reply)

    async def _is(self, held: bool) -> None:
        if held != self._held:
            self._held = held
            log.info("quota_lease", held=held)
            await self._changed(held)
