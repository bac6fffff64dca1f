"""Following a row that counts changes: a poll once a second is the truth, NOTIFY only makes it faster.

A notification can be lost (a reconnect, a pooler, a fail-over), so nothing depends on one. The connection is of its own
and direct: LISTEN belongs to a session, and waiting must not occupy the pool.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Generic, LiteralString, TypeVar

import psycopg
import structlog
from psycopg import sql

from db import engine as engines
from db.head import CHANNEL
from db.rows import Head

log = structlog.get_logger(__name__)

FIRST_PAUSE: Final = 0.1  # seconds between attempts to connect, doubled each time up to LONGEST_PAUSE
LONGEST_PAUSE: Final = 2.0

T = TypeVar("T")
V = TypeVar("V")
Connection = psycopg.AsyncConnection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Followed(Generic[V]):
    """What is read, and the channel on which its changes are hinted at. `read` makes a value of the row."""

    channel: str
    query: LiteralString
    read: Callable[..., V]


HEAD: Final = Followed(CHANNEL, "SELECT revision, keys_version, rollout_version FROM head", Head)


class Watch(Generic[V]):
    """The values of a row as they change, for ever: `async for value in watch.values()`.

    Only the newest, nothing queues. `poll`: seconds between reads when no notification comes. `patience`: seconds after
    which a silent server counts as gone. `connected`: whether the last read succeeded.
    """

    def __init__(self, url: str, followed: Followed[V], *, poll: float = 1.0, patience: float = 3.0) -> None:
        self.connected = False
        self.last_error = ""
        self._url = engines.libpq_url(url)
        self._followed = followed
        self._poll = poll
        self._patience = patience
        self._jitter = random.Random()  # noqa: S311 - it spreads reconnects, nothing secret

    async def values(self) -> AsyncGenerator[V]:
        last: V | None = None
        pause = FIRST_PAUSE
        while True:
            session = _Session(self._url, self._followed, self._poll, self._patience)
            try:
                async with aclosing(session.values()) as values:
                    async for value in values:
                        self._up()
                        pause = FIRST_PAUSE
                        if value != last:
                            last = value
                            yield value
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


class HeadWatch(Watch[Head]):
    """Follows the head row."""

    def __init__(self, url: str, *, poll: float = 1.0, patience: float = 3.0) -> None:
        super().__init__(url, HEAD, poll=poll, patience=patience)

    def heads(self) -> AsyncGenerator[Head]:
        return self.values()


class _Session(Generic[V]):
    """One connection's life. Every wait for the server's answer is bounded."""

    def __init__(self, url: str, followed: Followed[V], poll: float, patience: float) -> None:
        self._url = url
        self._followed = followed
        self._poll = poll
        self._patience = patience
        self._connection: Connection | None = None

    async def values(self) -> AsyncGenerator[V]:
        connection = await engines.within(self._patience, self._connect(), cleanup=self.close)
        # listen, then read: a change between the two is read, one after both is notified
        await self._bounded(connection, self._patience, _listen(connection, self._followed))
        while True:
            yield await self._bounded(connection, self._patience, _read(connection, self._followed))
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


async def _listen(connection: Connection, followed: Followed[Any]) -> None:
    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(followed.channel)))


async def _hint(connection: Connection, seconds: float) -> None:
    """Returns at the first notification, or after `seconds` without one."""
    async for _ in connection.notifies(timeout=seconds, stop_after=1):
        pass


async def _read(connection: Connection, followed: Followed[V]) -> V:
    row = await (await connection.execute(followed.query)).fetchone()
    if row is None:
        raise psycopg.DataError("the row that is followed is missing")
    return followed.read(*row)
