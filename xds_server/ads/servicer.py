"""One gRPC call pumps one state machine: a reader feeds it requests, a writer takes one response at a time from it.

The writer asks the machine only when the last write is through, so a slow client costs one response's bytes and gets
the newest state when it reads again (statement 58).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from google.protobuf.message import DecodeError

from xds_server.ads.board import Mode
from xds_server.ads.brought import Brought
from xds_server.ads.delta import DeltaStream
from xds_server.ads.events import Acked, Event, Nacked, Reject, Send
from xds_server.ads.groups import node_of
from xds_server.ads.hub import Hub
from xds_server.ads.identity import Peer
from xds_server.ads.metrics import AdsMetrics
from xds_server.ads.sotw import SotwStream
from xds_server.ads.versions import version_of, warnings
from xds_server.ads.views import NOTHING, Choice
from xds_server.ads.wire import Encoder
from xds_server.resources import CLUSTER, LISTENER, PREFIX, Snapshot

log = structlog.get_logger(__name__)

FLUSH: Final = 5.0
"""Seconds that a stream which has to end waits for the response that it is writing."""

SHOWN: Final = 20
"""How many resource names a log line carries."""

AGENT: Final = "tollhouse-agent"
"""The `user_agent_name` of a node's agent. It is given what its node is given; what it takes is no word of Envoy's."""

DOUBT: Final = 1.0  # seconds between two looks at whether another replica may know better


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds, sizes in bytes. `burst` requests come at once, then `rate` a second; faster readers wait.

    `first` is how long a client may keep silent at its beginning. `clusters` bounds how long listeners and routes wait
    for a node's ACK of its clusters; `write` how long a client may leave a response unread. `streams` may begin at
    once, then `streams_rate` a second; more wait their turn, so that a fleet that comes back all at once leaves time
    for the nodes that are there (R25).
    """

    rate: float = 200.0
    burst: float = 1000.0
    request_bytes: int = 4 * 1024 * 1024
    first: float = 3.0
    clusters: float = 2.0
    write: float = 60.0
    streams: float = 100.0
    streams_rate: float = 100.0


class Ended(Exception):  # noqa: N818 - an outcome
    """The stream ends with a status."""

    def __init__(self, reject: Reject) -> None:
        super().__init__(reject.message)
        self.reject = reject


class Tokens:
    """A bucket of requests or streams; `take` gives the seconds to wait before the next one."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._at = burst, time.monotonic()

    def take(self) -> float:
        now = time.monotonic()
        self._level = min(self._burst, self._level + (now - self._at) * self._rate) - 1
        self._at = now
        return max(0.0, -self._level / self._rate)


class Turnstile:
    """New streams pass one after the other. Whoever gives up while it waits has used up nobody's turn."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._line = asyncio.Lock()

    async def turn(self) -> None:
        async with self._line:  # first come, first served
            await asyncio.sleep(self._tokens.take())


class Call:
    """One stream of one client from its first request to its end."""

    def __init__(
        self,
        hub: Hub,
        machine: SotwStream | DeltaStream,
        encoder: Encoder,
        metrics: AdsMetrics,
        pace: Pace,
        context: Any,
        peer: Peer,
    ) -> None:
        self._hub, self._machine, self._encoder = hub, machine, encoder
        self._metrics, self._pace, self._context, self._peer = metrics, pace, context, peer
        self._stream = 0
        self._brought = Brought()
        self._written: dict[str, tuple[float, Choice]] = {}
        self._log = log.bind(peer=context.peer())
        self.mode: Mode = "sotw" if isinstance(machine, SotwStream) else "delta"

    async def run(self, requests: AsyncIterator[bytes]) -> None:
        """Returns when the client is done; raises Ended to refuse it. Leaves nothing behind (statement 57)."""
        self._metrics.streams.labels(self.mode).inc()
        try:
            with self._hub.slot() as wake:
                await first_of(self._read(requests, wake), self._write(wake))
        finally:
            self._metrics.streams.labels(self.mode).dec()
            if self._stream:
                self._hub.views.leave(self._hub.board.row(self._stream).id)
                self._hub.board.disconnect(self._stream)
            self._log.debug("xds stream ended")

    async def _read(self, requests: AsyncIterator[bytes], wake: asyncio.Event) -> None:
        tokens = Tokens(self._pace.rate, self._pace.burst)
        async for data in spoken(requests, self._pace.first):
            self._receive(data)
            wake.set()
            wait = tokens.take()
            if wait:
                await asyncio.sleep(wait)  # not reading is what slows a client down

    async def _write(self, wake: asyncio.Event) -> None:
        current = await self._hub.current()
        until: float | None = None
        while True:
            while not current and self._differs():
                await asyncio.sleep(DOUBT)
                current = await self._hub.current()
            if current:
                self._brought.forget()
            wake.clear()
            await self._drain()
            until = self._patience(until)
            beat = self._machine.tick(asyncio.get_running_loop().time())
            try:
                async with asyncio.timeout_at(min((at for at in (until, beat) if at is not None), default=None)):
                    await wake.wait()
            except TimeoutError:
                if until is not None and until <= asyncio.get_running_loop().time():
                    self._machine.release()
                    until = None

    def _patience(self, until: float | None) -> float | None:
        """When to wait no longer. It is not put off by other news, or by a client that speaks of everything else."""
        if not self._machine.held_back:
            return None
        return until if until is not None else asyncio.get_running_loop().time() + self._pace.clusters

    def _differs(self) -> bool:
        """Whether an answer would replace what the client has, and has perhaps from a newer revision than ours."""
        view = self._choose().view
        return view is not None and self._brought.differs(view)

    def _choose(self) -> Choice:
        """What the node is to have now."""
        return NOTHING if self._machine.node is None else self._hub.views.choose(self._machine.node)

    async def _drain(self) -> None:
        """Write until the machine has nothing more to say about what the node is to have."""
        while self._stream:
            choice = self._choose()
            self._hub.board.withhold(self._stream, choice.reason)
            self._machine.tick(asyncio.get_running_loop().time())
            if choice.view is None:  # an empty answer would delete everything
                return
            send = self._machine.next(choice.view)
            if send is None:
                self._settle(choice, choice.view)
                return
            await self._send(send, choice)

    def _settle(self, choice: Choice, view: Snapshot) -> None:
        in_sync = self._machine.in_sync(view)
        self._hub.board.settled(self._stream, view, in_sync, newest=choice.newest)
        envoy = self._machine.node is not None and self._machine.node.user_agent_name != AGENT
        if envoy and in_sync.keys() >= {CLUSTER, LISTENER} and all(in_sync.values()):
            self._hub.views.taken(self._hub.board.row(self._stream).id, choice)

    async def _send(self, send: Send, choice: Choice) -> None:
        if not send.heartbeat:  # which is no update: nobody waits for its ACK
            self._written[send.nonce] = (time.monotonic(), choice)
            self._hub.board.sent(self._stream, send)
            self._metrics.pushes.labels(send.type_url).inc()
        await self._write_whole(self._encoder(send))
        self._log.debug(
            "xds sent", type=_short(send.type_url), version=send.version, nonce=send.nonce, count=len(send.names)
        )

    async def _write_whole(self, data: bytes) -> None:
        """A write that has begun runs to its end, also if the stream is ended meanwhile.

        Only then can its status be sent: gRPC does one thing of a kind at a time. The client would wait for ever.
        """
        writing = asyncio.ensure_future(self._context.write(data))
        try:
            done, _ = await asyncio.wait([writing], timeout=self._pace.write)
        except asyncio.CancelledError:
            await asyncio.wait([writing], timeout=FLUSH)
            raise
        finally:
            if not writing.cancel() and not writing.cancelled():
                writing.exception()  # looked at, so that nobody else complains
        if not done:
            raise Ended(Reject("DEADLINE_EXCEEDED", "the client does not read its responses"))
        writing.result()

    def _receive(self, data: bytes) -> None:
        for event in self._events(data):
            if isinstance(event, Reject):
                raise Ended(event)
            self._tell(event)
        if self._stream == 0:
            self._connect()
        for type_url in self._machine.types:
            self._hub.board.subscribed(self._stream, type_url)

    def _events(self, data: bytes) -> tuple[Event, ...]:
        if len(data) > self._pace.request_bytes:
            return (Reject("RESOURCE_EXHAUSTED", f"a request may have {self._pace.request_bytes} bytes"),)
        try:
            if isinstance(self._machine, SotwStream):
                request = DiscoveryRequest.FromString(data)
                self._brought.note(request)
                return self._stranger(request) or self._machine.receive(request)
            changes = DeltaDiscoveryRequest.FromString(data)
            self._brought.note(changes)
            return self._stranger(changes) or self._machine.receive(changes)
        except DecodeError:
            return (Reject("INVALID_ARGUMENT", "not a discovery request"),)

    def _stranger(self, request: DiscoveryRequest | DeltaDiscoveryRequest) -> tuple[Reject, ...]:
        """Also later requests may carry a node, and it must still be the client's own."""
        refusal = self._peer.refuse(request.node.id)
        return () if refusal is None else (refusal,)

    def _connect(self) -> None:
        node = self._machine.node
        assert node is not None  # noqa: S101 - a first request without one was refused
        version = node.user_agent_build_version.version
        build = f"{version.major_number}.{version.minor_number}.{version.patch}"
        self._hub.views.join(node)
        row = self._hub.board.connect(node_of(node), build, self.mode, self._context.peer())
        self._stream = row.stream
        self._log = self._log.bind(node=node.id, mode=self.mode, stream=row.stream)
        self._log.info("xds stream opened", build=build)
        for warning in warnings(version_of(node)):
            self._log.warning("xds node should be updated", warning=warning)

    def _tell(self, event: Acked | Nacked) -> None:
        board, taken = self._hub.board, isinstance(event, Acked)
        self._metrics.responses.labels(event.type_url, "ack" if taken else "nack").inc()
        began, choice = self._written.pop(event.nonce, (None, NOTHING))
        said: dict[str, Any] = {"type": _short(event.type_url), "version": event.version, "nonce": event.nonce}
        if isinstance(event, Acked):
            board.acked(self._stream, event)
            if began is not None:
                self._metrics.ack_seconds.observe(time.monotonic() - began)
            self._log.debug("xds ack", **said)
        else:
            board.nacked(self._stream, event, newest=choice.newest)
            self._hub.views.refused(board.row(self._stream).id, choice, event.type_url)
            self._log.warning("xds nack", **said, message=event.message, names=event.names[:SHOWN])
        self._hub.tell(board.row(self._stream), event)


async def spoken(requests: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """The requests; none, if the first does not come within so many seconds.

    An Envoy on its second source opens a stream here and says nothing on it, and goes on with that one when it has lost
    the other (1.40, measured): it would stay without a control plane for ever.
    """
    try:
        async with asyncio.timeout(seconds):
            first = await anext(requests)
    except (TimeoutError, StopAsyncIteration):
        return
    yield first
    async for data in requests:
        yield data


async def first_of(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run until one ends; whatever happens, all have ended afterwards."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _short(type_url: str) -> str:
    return type_url.removeprefix(PREFIX)


def status(reject: Reject) -> Any:
    """The gRPC status code of a Reject."""
    return getattr(grpc.StatusCode, reject.code)
