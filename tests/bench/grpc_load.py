"""A unary gRPC client that costs little: libnghttp2, one process, so that what is measured is the server.

`Load(port, path, messages, connections, at_once).run(seconds)` keeps `at_once` calls open on each connection, or, with
`rate`, begins that many a second whatever comes back (an open loop: waiting is then counted as it is felt).
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import ngh2

from policy.transport.framing import framed


@dataclass
class Outcome:
    """`took`: seconds of each call that was answered, sorted. `failed`: by grpc-status, -1 for a reset."""

    seconds: float
    took: list[float] = field(default_factory=list)
    failed: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return len(self.took) / self.seconds

    def quantile(self, part: float) -> float:
        """Milliseconds."""
        return self.took[min(len(self.took) - 1, int(len(self.took) * part))] * 1000 if self.took else float("nan")


class _Connection(asyncio.Protocol):
    def __init__(self, headers: list[tuple[bytes, bytes]], bodies: list[bytes], outcome: Outcome) -> None:
        self._headers, self._bodies, self._outcome = headers, bodies, outcome
        self._h2 = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration(peer_max_concurrent_streams=1000))
        self._h2.initiate_connection({ngh2.Setting.INITIAL_WINDOW_SIZE: 2**20})
        self._began: dict[int, float] = {}
        self._next = 0
        self.at_once = 0
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._h2.set_local_window_size(2**30)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def ask(self, count: int) -> None:
        for _ in range(count):
            stream = self._h2.send_request(self._headers)
            self._h2.send_data(stream, self._bodies[self._next % len(self._bodies)], end_stream=True)
            self._next += 1
            self._began[stream] = time.perf_counter()
        self._transport.write(self._h2.data_to_send())

    @property
    def open(self) -> int:
        return len(self._began)

    def data_received(self, data: bytes) -> None:
        self._h2.receive_data(data)
        now, ended = time.perf_counter(), 0
        for event in self._h2.events():
            kind = type(event)
            if kind is ngh2.TrailersReceived:
                ended += self._end(event.stream_id, now, 0)
            elif kind is ngh2.ResponseReceived and event.end_stream:
                ended += self._end(event.stream_id, now, int(dict(event.headers).get(b"grpc-status", b"-1")))
            elif kind is ngh2.StreamReset:
                ended += self._end(event.stream_id, now, -1)
        if self.at_once:
            self.ask(ended)
        else:
            self._transport.write(self._h2.data_to_send())

    def _end(self, stream: int, now: float, status: int) -> int:
        began = self._began.pop(stream, None)
        if began is None:
            return 0
        if status:
            self._outcome.failed[status] = self._outcome.failed.get(status, 0) + 1
        else:
            self._outcome.took.append(now - began)
        return 1


@dataclass(frozen=True)
class Load:
    """`messages`: serialised requests, sent in turn."""

    port: int
    path: str
    messages: list[bytes]
    connections: int = 1
    at_once: int = 32
    rate: float | None = None

    async def run(self, seconds: float, warm_up: float = 0.5) -> Outcome:
        outcome, loop = Outcome(seconds), asyncio.get_running_loop()
        headers = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", self.path.encode()),
            (b":authority", b"decisions"),
            (b"te", b"trailers"),
            (b"grpc-timeout", b"2000m"),
            (b"content-type", b"application/grpc"),
            (b"x-envoy-internal", b"true"),
            (b"x-forwarded-for", b"192.0.2.2"),
            (b"x-envoy-expected-rq-timeout-ms", b"2000"),
        ]
        bodies = [framed(message) for message in self.messages]
        made = [
            (await loop.create_connection(lambda: _Connection(headers, bodies, outcome), "127.0.0.1", self.port))[1]
            for _ in range(self.connections)
        ]
        for connection in made:
            if self.rate is None:
                connection.at_once = self.at_once
                connection.ask(self.at_once)
        await self._pass(made, warm_up)
        outcome.took.clear()
        began = time.perf_counter()
        await self._pass(made, seconds)
        outcome.seconds = time.perf_counter() - began
        outcome.took.sort()
        for connection in made:
            connection._transport.abort()
        return outcome

    async def _pass(self, made: list[_Connection], seconds: float) -> None:
        began, asked = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds:
            if self.rate is not None:
                due = int(passed * self.rate) - asked
                for number, connection in enumerate(made):
                    share = due // len(made) + (number < due % len(made))
                    if share and connection.open < 900:
                        connection.ask(share)
                asked += due
            await asyncio.sleep(0.001 if self.rate else 0.05)
