"""Unary gRPC over libnghttp2, for the calls that Envoy makes for every request.

All requests that arrive together are begun in one turn of the event loop and, where nothing must be waited for,
answered by one write. What must wait for the counters therefore shares one round trip (`policy.ratelimit.valkey`).
"""

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn, cast

import grpc
import structlog

from policy.faults import where
from policy.transport import framing
from policy.transport.core import Cancelled, Core, Request
from policy.transport.deadlines import Deadlines
from policy.transport.method import Method
from policy.transport.tls import TlsFiles, server_context
from policy.transport.work import Work

log = structlog.get_logger(__name__)

Code = grpc.StatusCode
BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds. `in_flight`: calls at once in the whole server; more are refused (RESOURCE_EXHAUSTED).

    A connection on which nothing has come for `keepalive` is asked whether it is there, and closed if that is not
    answered within `patience`. After `age`, give or take a tenth, a connection is drained, so that a service that was
    added gets its share of calls; calls that are in flight then have `grace`. `quiet`: see `Connection.drain`.
    """

    in_flight: int = 4_096
    connections: int = 1_024
    keepalive: float = 30.0
    patience: float = 20.0
    age: float = 1800.0
    grace: float = 10.0
    tick: float = 1.0
    linger: float = 1.0
    quiet: float = 0.005


class Ended(Exception):  # noqa: N818 - no error: a call ends so as well
    """How a method ends its call as failed."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


class FastCall:
    """A `policy.transport.method.Call`."""

    __slots__ = ("_clock", "_request")

    def __init__(self, clock: Callable[[], float], request: Request) -> None:
        self._clock = clock
        self._request = request

    def time_remaining(self) -> float | None:
        deadline = self._request.deadline
        return None if deadline is None else max(0.0, deadline - self._clock())

    def invocation_metadata(self) -> Sequence[tuple[str, Any]]:
        return framing.metadata(self._request.headers)

    async def abort(self, code: grpc.StatusCode, details: str = "") -> NoReturn:
        raise Ended(code, details)


class FastServer:
    """Not for streaming methods: those are UNIMPLEMENTED here. Belongs to the event loop that it is started in."""

    def __init__(self, methods: Iterable[Method[Any, Any]], limits: Limits | None = None) -> None:
        self.methods = {method.path.encode(): method for method in methods}
        self.limits = limits or Limits()
        self.in_flight = 0
        self.loop: asyncio.AbstractEventLoop
        self.deadlines: Deadlines
        self.connections: set[Connection] = set()
        self.stopping = False
        self._listener: asyncio.Server | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._nobody = asyncio.Event()

    async def start(self, host: str, port: int, tls: TlsFiles | None = None) -> int:
        """The port that it got. Raises OSError."""
        self.loop = asyncio.get_running_loop()
        self.deadlines = Deadlines(self.loop)
        context = server_context(tls) if tls else None
        self._listener = await self.loop.create_server(
            partial(Connection, self), host, port, ssl=context, backlog=BACKLOG, reuse_port=False
        )
        self._ticker = self.loop.call_later(self.limits.tick, self._tick)
        return int(self._listener.sockets[0].getsockname()[1])

    async def stop(self, drain: float) -> None:
        """No new connections; streams that are on their way are still served, for up to `drain` seconds."""
        self.stopping = True
        if self._listener is not None:
            self._listener.close()
        for connection in tuple(self.connections):
            connection.drain(drain)
        if self.connections:
            self._nobody.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nobody.wait(), drain)
        for connection in tuple(self.connections):
            connection.abort()
        if self._ticker is not None:
            self._ticker.cancel()
            self.deadlines.close()

    def left(self, connection: "Connection") -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._nobody.set()

    def _tick(self) -> None:
        now = self.loop.time()
        for connection in tuple(self.connections):
            connection.tick(now)
        self._ticker = self.loop.call_later(self.limits.tick, self._tick)


class Connection(asyncio.Protocol):
    """One peer: its bytes to the core and back, and the calls that it waits for."""

    def __init__(self, server: FastServer) -> None:
        self.server = server
        self._core = Core(server.loop.time)
        self._works: dict[int, Work[bytes]] = {}
        self._transport: asyncio.Transport
        self._flushing = False
        self._paused = False
        self._unsaid: list[Callable[[], None]] | None = None
        self._heard = server.loop.time()
        self._asked = False  # whether it is there
        self._end_of_age = self._heard + server.limits.age * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load
        self._end_of_grace: float | None = None
        self._leaving = False

    # --------------------------------------------------------------------------------------------------- asyncio's
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        full = len(self.server.connections) >= self.server.limits.connections
        if full or self.server.stopping or (tls is not None and tls.selected_alpn_protocol() != "h2"):
            self._transport.abort()
            return
        plain = transport.get_extra_info("socket")
        if plain is not None and plain.family in (socket.AF_INET, socket.AF_INET6):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.connections.add(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._heard, self._asked = self.server.loop.time(), False
        for one in self._core.received(data):
            if isinstance(one, Request):
                self._begin(one)
            else:
                self._forget(one)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        works, self._works = self._works, {}
        for work in works.values():
            work.cancel()
        self.server.left(self)

    def pause_writing(self) -> None:
        """The peer does not read. What it asks meanwhile is not read either: its answers would be kept here for it."""
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._flush()

    # ------------------------------------------------------------------------------------------------------- calls
    def _begin(self, request: Request) -> None:
        server = self.server
        method = server.methods.get(request.path)
        if method is None:
            self._say(self._core.fail, request.stream, Code.UNIMPLEMENTED, "there is no such method here")
            return
        if server.in_flight >= server.limits.in_flight:
            self._say(self._core.fail, request.stream, Code.RESOURCE_EXHAUSTED, "too many calls at once")
            return
        call = FastCall(server.loop.time, request)
        work: Work[bytes] = Work(server.loop, method.serve(request.message, call), partial(self._ended, request.stream))
        server.in_flight += 1
        work.run()
        if not work.done:
            self._works[request.stream] = work
            if request.deadline is not None:
                server.deadlines.add(request.deadline, work, partial(self._late, request.stream, work))

    def _ended(self, stream: int, work: Work[bytes]) -> None:
        self.server.in_flight -= 1
        self._works.pop(stream, None)
        error = work.error
        if error is None:
            self._say(self._core.answer, stream, cast("bytes", work.value))
        elif isinstance(error, Ended):
            self._say(self._core.fail, stream, error.code, error.details)
        else:
            if not isinstance(error, asyncio.CancelledError):
                log.error("call_failed", **where(error))
            self._say(self._core.fail, stream, Code.UNAVAILABLE, "the call could not be answered")
        self._soon()

    def _late(self, stream: int, work: Work[bytes]) -> None:
        self._say(self._core.fail, stream, Code.DEADLINE_EXCEEDED, "the answer would come too late")
        work.cancel()
        self._soon()

    def _forget(self, one: Cancelled) -> None:
        work = self._works.pop(one.stream, None)
        if work is not None:
            work.cancel()

    # ----------------------------------------------------------------------------------------------------- writing
    def _say(self, say: Callable[..., None], *what: Any) -> None:
        if self._unsaid is None:
            say(*what)
        else:
            self._unsaid.append(partial(say, *what))

    def _soon(self) -> None:
        """Answers that are ready in one turn of the loop leave in one write."""
        if not self._flushing:
            self._flushing = True
            self.server.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._paused or self._transport.is_closing():
            return
        data = self._core.to_send()
        if data:
            self._transport.write(data)
        if self._core.closed:
            self._transport.close()
        elif self._core.drained and not self._leaving:
            # The peer closes; if we did, what it still sends would be answered by a reset, and that may overtake the
            # last answers.
            self._leaving = True
            self.server.loop.call_later(self.server.limits.linger, self._transport.close)

    # -------------------------------------------------------------------------------------------------------- time
    def tick(self, now: float) -> None:
        limits = self.server.limits
        self._core.ticked()
        silent = now - self._heard
        over = self._end_of_grace is not None and now >= self._end_of_grace
        if over or (self._asked and silent >= limits.keepalive + limits.patience):
            self.abort()
        elif not self._asked and silent >= limits.keepalive:
            self._asked = True
            self._core.ping()
            self._flush()
        elif self._end_of_grace is None and now >= self._end_of_age:
            self.drain(limits.grace)

    def drain(self, grace: float) -> None:
        """Asks the peer to go, and says nothing else for a moment before and after.

        An Envoy that reads an answer and a GOAWAY at once fails what it asks because of the answer (the limits, after
        the credentials were found good): it has made the stream by then, but not sent it, and does not try elsewhere.
        """
        if self._end_of_grace is None:
            self._flush()
            self._unsaid = []
            self.server.loop.call_later(self.server.limits.quiet, self._say_goodbye)
        self._end_of_grace = self.server.loop.time() + grace

    def _say_goodbye(self) -> None:
        self._core.shut_down()
        self._flush()
        self.server.loop.call_later(self.server.limits.quiet, self._say_the_rest)

    def _say_the_rest(self) -> None:
        unsaid, self._unsaid = self._unsaid or [], None
        for say in unsaid:
            say()
        self._flush()

    def abort(self) -> None:
        self._transport.abort()
