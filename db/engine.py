"""Connections to PostgreSQL, and what bounds the time that anybody waits for it.

A server can be gone (refused at once), or there and silent (a frozen host, a cut cable). The second is noticed by time
alone, so every unit of work runs under a deadline here and its caller hears `Unavailable` within it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

T = TypeVar("T")

CONNECT_TIMEOUT: Final = 3  # seconds, whole ones: libpq's unit
DEADLINE: Final = 4.5  # seconds for one unit of work, connecting included
SECRET_PARAMETERS: Final = frozenset({"password", "sslpassword"})

# A peer that vanished is noticed by the kernel too, for connections that wait for nothing in particular.
CONNECT_ARGUMENTS: Final[dict[str, Any]] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "application_name": "tollhouse",
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


class Unavailable(Exception):  # noqa: N818 - a state of the world, and the word that callers answer with
    """PostgreSQL cannot be reached or did not answer in time. Whether an unfinished commit took effect is unknown."""


def parse_url(url: str) -> URL:
    """`postgresql://…` (libpq's form) as SQLAlchemy's URL for psycopg 3. Raises ValueError for another database."""
    parsed = make_url(url)
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ValueError(f"the database must be PostgreSQL: {masked(url)}")
    return parsed.set(drivername="postgresql+psycopg")


def libpq_url(url: str) -> str:
    """The same, in the form that psycopg itself takes (password included)."""
    return parse_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def masked(url: str) -> str:
    """The URL without its passwords, for logs and errors."""
    parsed = make_url(url)
    query = {key: "***" if key in SECRET_PARAMETERS else value for key, value in parsed.query.items()}
    return parsed.set(query=query).render_as_string(hide_password=True)


def connect(url: str, *, pool_size: int = 5, overflow: int = 5) -> AsyncEngine:
    """A pool of connections; none is opened yet, so it may be made before the server runs.

    No prepared statements (`prepare_threshold`): a transaction pooler between us and PostgreSQL would lose them.
    """
    return create_async_engine(
        parse_url(url),
        pool_size=pool_size,
        max_overflow=overflow,
        pool_timeout=CONNECT_TIMEOUT,
        pool_pre_ping=True,
        pool_recycle=1800,
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args={**CONNECT_ARGUMENTS, "prepare_threshold": None},
    )


async def run(engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]], *, deadline: float = DEADLINE) -> T:
    """`work` in one transaction, committed when it returns. Raises Unavailable within `deadline` seconds."""
    try:
        return await within(deadline, _transaction(engine, work))
    except (OperationalError, InterfaceError, PoolTimeoutError, TimeoutError, OSError) as error:
        raise Unavailable(_reason(error)) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Unavailable(_reason(error)) from error
        raise


async def within(
    seconds: float, work: Coroutine[Any, Any, T], cleanup: Callable[[], Awaitable[None]] | None = None
) -> T:
    """`work`'s result, or TimeoutError after `seconds`, whatever `work` does then.

    `asyncio.timeout` waits until the cancelled work has ended, and psycopg spends up to 10 s on asking a silent server
    to cancel. Here that goes on in the background, and `cleanup` runs after it.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        _abandon(task, cleanup)
        raise
    if not done:
        _abandon(task, cleanup)
        raise TimeoutError(f"no answer within {seconds:g} s")
    return task.result()


_abandoned: set[asyncio.Task[None]] = set()  # the event loop keeps weak references only


def _abandon(task: asyncio.Task[Any], cleanup: Callable[[], Awaitable[None]] | None) -> None:
    async def bury() -> None:
        await asyncio.gather(task, return_exceptions=True)
        if cleanup is not None:
            await asyncio.gather(cleanup(), return_exceptions=True)

    task.cancel()
    burial = asyncio.ensure_future(bury())
    _abandoned.add(burial)
    burial.add_done_callback(_abandoned.discard)


async def settled(seconds: float = 2.0) -> None:
    """Before the event loop ends: gives work that was abandoned `seconds` to end and to close its connection."""
    if _abandoned:
        await asyncio.wait(set(_abandoned), timeout=seconds)


async def close(engine: AsyncEngine) -> None:
    """The end of a process's work with the database: nothing stays open behind it."""
    await settled()
    await engine.dispose()


async def _transaction(engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    async with engine.begin() as connection:
        return await work(connection)


def _reason(error: BaseException) -> str:
    """One line, without statements or parameters."""
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split())[:300] or type(original).__name__
