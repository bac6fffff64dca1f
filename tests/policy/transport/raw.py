"""An HTTP/2 client that says what it is told to, sense or not, and remembers what it heard."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import ngh2
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BytesValue

from policy.transport.framing import framed
from tests.policy.transport.methods import SERVICE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
PATIENCE = 10


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def asked(method: str = "Echo", **changed: str | None) -> list[tuple[bytes, bytes]]:
    """Headers of a request; `_` in a name stands for `-`, a pseudo header's name begins with `p_`; None leaves out."""
    headers: dict[str, str | None] = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{SERVICE}/{method}",
        ":authority": "decisions",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    for name, value in changed.items():
        headers[f":{name[2:]}" if name.startswith("p_") else name.replace("_", "-")] = value
    return [(name.encode(), value.encode()) for name, value in headers.items() if value is not None]


@dataclass
class Stream:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    trailers: dict[bytes, bytes] = field(default_factory=dict)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int | None:
        said = {**self.headers, **self.trailers}.get(b"grpc-status")
        return None if said is None else int(said)

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class Raw:
    """Use as a context. What `write` sends past the state machine it does not know of."""

    def __init__(self, port: int, settings: dict[int, int] | None = None, ssl: Any = None, limit: int = 2**16) -> None:
        self._port, self._ssl, self._limit = port, ssl, limit
        self.h2 = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration(auto_window_update=True))
        self.h2.initiate_connection(settings or {})
        self.streams: dict[int, Stream] = defaultdict(Stream)
        self.settings: dict[int, int] = {}
        self.goaways: list[tuple[int, int]] = []
        self.pings = 0
        self.pongs = 0
        self.eof = False

    async def __aenter__(self) -> "Raw":
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._ssl, limit=self._limit
        )
        self.flush()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.writer.close()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    def send(self, headers: list[tuple[bytes, bytes]], body: bytes | None, *, end: bool = True) -> int:
        """Nothing leaves before `flush`. `body`: with its prefix; None for a request that ends with its headers."""
        stream = self.h2.send_request(headers, end_stream=body is None)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=end)
        return int(stream)

    def ask(self, method: str = "Echo", message: Message | None = None, **changed: str | None) -> int:
        message = BytesValue(value=b"hello") if message is None else message
        return self.send(asked(method, **changed), framed(message.SerializeToString()))

    async def read(self) -> None:
        """What comes next."""
        try:
            data = await asyncio.wait_for(self.reader.read(2**16), PATIENCE)
        except ConnectionError:
            data = b""
        if not data:
            self.eof = True
            return
        self.h2.receive_data(data)
        for event in self.h2.events():
            self._heard(event)
        if self.h2.want_write:
            self.flush()

    async def over(self, *streams: int) -> list[Stream]:
        """Those streams once all of them have ended, or the connection has."""
        while not self.eof and not all(self.streams[number].over for number in streams):
            await self.read()
        return [self.streams[number] for number in streams]

    async def call(self, method: str = "Echo", message: Message | None = None, **changed: str | None) -> Stream:
        stream = self.ask(method, message, **changed)
        self.flush()
        return (await self.over(stream))[0]

    async def one(self, body: bytes | None, **changed: str | None) -> Stream:
        """What is answered to that body."""
        stream = self.send(asked(**changed), body)
        self.flush()
        return (await self.over(stream))[0]

    async def closed(self) -> None:
        while not self.eof:
            await self.read()

    def _heard(self, event: Any) -> None:
        match event:
            case ngh2.ResponseReceived(stream_id, headers, end):
                self.streams[stream_id].headers = dict(headers)
                self.streams[stream_id].ended |= end
            case ngh2.DataReceived(stream_id, data, end):
                self.streams[stream_id].data += data
                self.streams[stream_id].ended |= end
            case ngh2.TrailersReceived(stream_id, headers):
                self.streams[stream_id].trailers = dict(headers)
                self.streams[stream_id].ended = True
            case ngh2.StreamReset(stream_id, code):
                self.streams[stream_id].reset = code
            case ngh2.GoAwayReceived(last, code, _):
                self.goaways.append((last, code))
            case ngh2.SettingsReceived(settings):
                self.settings |= settings
            case ngh2.PingReceived():
                self.pings += 1
            case ngh2.PingAcknowledged():
                self.pongs += 1
