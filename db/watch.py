"""Following the head row: a poll once a second is the truth, NOTIFY only makes it faster.

A notification can be lost (a reconnect, a pooler, a fail-over), so nothing depends on one. The connection is of its own
and direct: LISTEN belongs to a session, and waiting must not occupy the pool.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, Final, TypeVar

import psycopg
import structlog

from db import engine as engines
from db.head import CHANNEL
from db.rows import Head

log = structlog.get_logger(__name__)

FIRST_PAUSE: Final = 0.1  # seconds between attempts to connect, doubled each time up to LONGEST_PAUSE
LONGEST_PAUSE: Final = 2.0

T = TypeVar("T")
Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class HeadWatch:
    """The head's values as they change, for ever: `async for head in watch.heads()`. Only the newest, nothing queues.

    `poll`: seconds between reads when no notification comes. `patience`: seconds after which a silent server counts as
    gone. `connected`: whether the last read succeeded.
    """

    def __init__(self, url: str, *, poll: float = 1.0, patience: float = 3.0) -> None:
        self.connected = False
        self.last_error = ""
        self._url = engines.libpq_url(url)
        self._poll = poll
        self._patience = patience
        self._jitter = random.Random()  # noqa: S311 - it spreads reconnects, nothing secret

    async def heads(self) -> AsyncGenerator[Head]:
        last: Head | None = None
        pause = FIRST_PAUSE
        while True:
            session = _Session(self._url, self._poll, self._patience)
            try:
                async with aclosing(session.heads()) as heads:
                    async for head in heads:
                        self._up()
                        pause = FIRST_PAUSE
                        if head != last:
                            last = head
                            yield head
            except (psycopg.Error, OSError, TimeoutError) as error:
                self._down(error)
            finally:
                await session.close()
            await asyncio.sleep(pause * self._jitter.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _up(self) -> None:
        if not self.connected:
            log.info("database_connected")
        self.connected, self.last_error = True, ""

    def _down(self, error: Exception) -> None:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if self.connected or not self.last_error:
            log.warning("database_lost", reason=reason)
        self.connected, self.last_error = False, reason


class _Session:
    """One connection's life. Every wait for the server's answer is bounded."""

    def __init__(self, url: str, poll: float, patience: float) -> None:
        self._url = url
        self._poll = poll
        self._patience = patience
        self._connection: Connection | None = None

    async def heads(self) -> AsyncGenerator[Head]:
        connection = await engines.within(self._patience, self._connect(), cleanup=self.close)
        # listen, then read: a change between the two is read, one after both is notified
        await self._bounded(connection, self._patience, _listen(connection))
        while True:
            yield await self._bounded(connection, self._patience, _read(connection))
            await self._bounded(connection, self._poll + self._patience, _hint(connection, self._poll))

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _connect(self) -> Connection:
        arguments = {**engines.CONNECT_ARGUMENTS, "prepare_threshold": None, "autocommit": True}
        self._connection = await psycopg.AsyncConnection.connect(self._url, **arguments)
        return self._connection

    async def _bounded(self, connection: Connection, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """`work` in a task of its own, so that a cancellation reaches us even when psycopg loses it (Python 3.11)."""
        try:
            return await engines.within(seconds, work, cleanup=connection.close)
        except (TimeoutError, asyncio.CancelledError):
            self._connection = None  # the abandoned work still uses it and closes it when done
            raise


async def _listen(connection: Connection) -> None:
    await connection.execute(f"LISTEN {CHANNEL}")


async def _hint(connection: Connection, seconds: float) -> None:
    """Returns at the first notification, or after `seconds` without one."""
    async for _ in connection.notifies(timeout=seconds, stop_after=1):
        pass


async def _read(connection: Connection) -> Head:
    row = await (await connection.execute("SELECT revision, keys_version FROM head")).fetchone()
    if row is None:
        raise psycopg.DataError("the head row is missing")
    return Head(*row)
