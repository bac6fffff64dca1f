"""The server's end of one HTTP/2 connection that carries unary gRPC: bytes in, requests out, answers in, bytes out.

No sockets, no clock, no event loop: whoever drives it reads, writes and waits. libnghttp2 does the frames, HPACK, flow
control and the state of streams; here is what gRPC adds, and what a peer may not do to us.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import grpc
import ngh2
from ngh2 import DataReceived, RequestReceived, StreamClosed

from policy.transport import framing
from policy.transport.framing import Refused

LARGEST: Final = 1024 * 1024
"""Bytes of a message that is read."""
HELD: Final = 16 * LARGEST
"""Bytes of unfinished messages that a connection may have with us: its streams times the largest would be a lot."""
STREAMS: Final = 1024
FLOOD: Final = 1000
"""PING, SETTINGS and PRIORITY_UPDATE frames between two `ticked`; each costs an answer or some work, and no stream."""
HEADER_BYTES: Final = 32 * 1024

CONFIGURATION: Final = ngh2.Configuration(
    max_inbound_header_list_size=HEADER_BYTES,
    max_inbound_header_count=128,
    # An Envoy resets every request that timed out. In a slow spell those are all of them, and the connection (whose
    # loss would fail the rest as well) must survive it; what remains is a fence against somebody who does only that.
    stream_reset_rate_limit=(100_000, 20_000),
)
SETTINGS: Final = {
    ngh2.Setting.MAX_CONCURRENT_STREAMS: STREAMS,
    ngh2.Setting.MAX_HEADER_LIST_SIZE: HEADER_BYTES,
    ngh2.Setting.ENABLE_PUSH: 0,
    ngh2.Setting.NO_RFC7540_PRIORITIES: 1,
}
NO_GRPC: Final = ((b":status", b"415"), (b"accept", b"application/grpc"))
NO_POST: Final = ((b":status", b"405"), (b"allow", b"POST"))
LAST_PING: Final = b"lastping"
KEEPALIVE: Final = b"tollhous"
FLOODING: Final = (ngh2.PingReceived, ngh2.SettingsReceived, ngh2.PriorityUpdateReceived)

Headers = tuple[ngh2.Header, ...]


class Request:
    """`deadline`: in the clock's seconds, None for no end. `message`: serialised, once the request is whole."""

    __slots__ = ("asked", "body", "deadline", "headers", "message", "path", "stream", "unwanted")

    def __init__(self, stream: int, path: bytes, headers: Headers) -> None:
        self.stream = stream
        self.path = path
        self.headers = headers
        self.deadline: float | None = None
        self.message = b""
        self.body: bytearray | None = None
        self.asked = False
        self.unwanted = False


class Cancelled:
    """Nobody waits for the answer of this stream any more."""

    __slots__ = ("stream",)

    def __init__(self, stream: int) -> None:
        self.stream = stream


class Core:
    """`clock`: monotonic seconds.

    `received` gives what is to be done; each Request is owed `answer` or `fail`, until it is Cancelled. After any call
    `to_send` has what must be written. `closed`: this connection has ended, and nobody waits for answers.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._h2 = ngh2.Connection(ngh2.Role.SERVER, CONFIGURATION)
        self._h2.initiate_connection(SETTINGS)
        self._streams: dict[int, Request] = {}
        self._found: list[Request | Cancelled] = []
        self._afterwards: list[Callable[[], None]] = []
        self._held = 0
        self._noise = 0
        self._going_away = False
        self.closed = False

    @property
    def drained(self) -> bool:
        """The peer knows that no new streams are taken, and those that it had are answered."""
        return self._going_away and not self._streams

    def received(self, data: bytes) -> list[Request | Cancelled]:
        try:
            self._h2.receive_data(data)
        except ngh2.NGH2Error:  # not HTTP/2, or more than we put up with; nothing can be said to such a peer
            self.closed = True
        self._follow()
        found, self._found = self._found, []
        return found

    def to_send(self) -> bytes:
        try:
            data: bytes = self._h2.data_to_send()
            if self._afterwards:
                data += self._rest()
        except ngh2.NGH2Error:
            self.closed = True
            return b""
        self._follow()
        return data

    def answer(self, stream: int, message: bytes) -> None:
        if self._owed(stream) is not None:
            try:
                self._h2.send_response(stream, framing.HEADERS)
                self._h2.send_data(stream, framing.framed(message))
                self._h2.send_trailers(stream, framing.OK)
            except ngh2.NGH2Error:  # the stream, or the whole connection, has ended without our having been told yet
                return

    def fail(self, stream: int, code: grpc.StatusCode, detail: str) -> None:
        """A status alone, in the headers ("Trailers-Only")."""
        request = self._owed(stream)
        if request is not None:
            self._close(request, framing.status(code, detail), whole=True)

    def ping(self) -> None:
        if not self.closed:
            self._h2.ping(KEEPALIVE)

    def ticked(self) -> None:
        """Some seconds have passed."""
        self._noise = 0

    def shut_down(self) -> None:
        """Asks the peer to open no more streams. Those that cross this on their way are served: until the peer has
        answered a PING that follows, it may not have heard (RFC 9113, 6.8)."""
        if not self.closed:
            self._h2.send_shutdown_notice()
            self._afterwards.append(partial(self._h2.ping, LAST_PING))

    def _rest(self) -> bytes:
        """What must follow what has just left. libnghttp2 has an order of its own: PING and RST_STREAM go first."""
        afterwards, self._afterwards = self._afterwards, []
        for act in afterwards:
            act()
        data: bytes = self._h2.data_to_send()
        return data

    # --------------------------------------------------------------------------------------------------- events
    def _follow(self) -> None:
        for event in self._h2.events():
            if isinstance(event, DataReceived):
                self._data(event.stream_id, event.data, event.end_stream)
            elif isinstance(event, RequestReceived):
                self._begin(event.stream_id, event.headers, event.end_stream)
            elif isinstance(event, StreamClosed):
                self._end(event.stream_id)
            else:
                self._rarely(event)

    def _rarely(self, event: ngh2.Event) -> None:
        if isinstance(event, ngh2.TrailersReceived):
            self._data(event.stream_id, b"", True)
        elif isinstance(event, FLOODING):
            self._calm()
        elif isinstance(event, ngh2.PingAcknowledged) and event.opaque_data == LAST_PING:
            self._h2.send_goaway()
            self._going_away = True
        elif isinstance(event, ngh2.ConnectionClosed):
            self.closed = True

    def _begin(self, stream: int, headers: Headers, end: bool) -> None:
        fields = dict(headers)
        request = Request(stream, fields.get(b":path", b""), headers)
        self._streams[stream] = request
        if fields.get(b":method") != b"POST":
            return self._close(request, NO_POST, whole=end)
        if not framing.is_grpc(fields.get(b"content-type", b"")):
            return self._close(request, NO_GRPC, whole=end)
        if (allowed := fields.get(b"grpc-timeout")) is not None:
            seconds = framing.timeout(allowed)
            if seconds is None:
                return self._refuse(request, Refused(framing.Code.INTERNAL, "the grpc-timeout is malformed"), whole=end)
            request.deadline = self._clock() + seconds
        if end:
            self._whole(request, b"")
        return None

    def _data(self, stream: int, data: bytes, end: bool) -> None:
        request = self._streams.get(stream)
        if request is None or request.unwanted:
            return
        if not end:
            self._keep(request, data)
            return
        if request.body is not None:
            data = bytes(request.body + data)
            self._release(request)
        self._whole(request, data)

    def _whole(self, request: Request, body: bytes) -> None:
        found = framing.message(body, LARGEST)
        if isinstance(found, Refused):
            self._refuse(request, found, whole=True)
            return
        request.message = found
        request.asked = True
        self._found.append(request)

    def _keep(self, request: Request, data: bytes) -> None:
        """The start of a message whose rest is still to come."""
        body = request.body = bytearray() if request.body is None else request.body
        body += data
        self._held += len(data)
        wrong = framing.oversized(body, LARGEST)
        if wrong is None and len(body) > LARGEST + framing.PREFIX:
            wrong = Refused(framing.Code.UNIMPLEMENTED, "a unary method takes one message, and something follows it")
        if wrong is None and self._held > HELD:
            wrong = Refused(framing.Code.RESOURCE_EXHAUSTED, "too much is being sent at once")
        if wrong is not None:
            self._refuse(request, wrong, whole=False)

    def _end(self, stream: int) -> None:
        request = self._streams.pop(stream, None)
        if request is not None:
            self._release(request)
            if request.asked:
                self._found.append(Cancelled(stream))

    # -------------------------------------------------------------------------------------------------- endings
    def _owed(self, stream: int) -> Request | None:
        request = self._streams.get(stream)
        if request is None or not request.asked or self.closed:
            return None
        request.asked = False
        return request

    def _refuse(self, request: Request, wrong: Refused, *, whole: bool) -> None:
        self._release(request)
        self._close(request, framing.status(*wrong), whole=whole)

    def _close(self, request: Request, headers: Headers, *, whole: bool) -> None:
        """An answer of headers alone. `whole`: the request has ended; else the rest of it is not wanted either."""
        try:
            self._h2.send_response(request.stream, headers, end_stream=True)
        except ngh2.NGH2Error:
            return
        if not whole:
            request.unwanted = True
            self._afterwards.append(partial(self._stop, request))

    def _stop(self, request: Request) -> None:
        """Tells the peer of a request that was answered before its end to send no more of it (RFC 9113, 8.1)."""
        if self._streams.pop(request.stream, None) is not None:
            self._h2.reset_stream(request.stream, ngh2.ErrorCode.NO_ERROR)

    def _release(self, request: Request) -> None:
        if request.body is not None:
            self._held -= len(request.body)
            request.body = None

    def _calm(self) -> None:
        self._noise += 1
        if self._noise == FLOOD:
            self._h2.terminate_connection(ngh2.ErrorCode.ENHANCE_YOUR_CALM)
