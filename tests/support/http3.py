"""One request over HTTP/3 (aioquic)."""

import asyncio
import ssl
from dataclasses import dataclass, field

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent


@dataclass
class Answer:
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.headers[":status"])


class Client(QuicConnectionProtocol):
    """A connection that is used for one request."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.http = H3Connection(self._quic)
        self.answer = Answer()
        self.ended = asyncio.Event()

    async def get(self, host: str, path: str, headers: dict[str, str]) -> Answer:
        stream = self._quic.get_next_available_stream_id()
        pseudo = {":method": "GET", ":scheme": "https", ":authority": host, ":path": path}
        fields = [(name.encode(), value.encode()) for name, value in (pseudo | headers).items()]
        self.http.send_headers(stream, fields, end_stream=True)
        self.transmit()
        await self.ended.wait()
        return self.answer

    def quic_event_received(self, event: QuicEvent) -> None:
        for found in self.http.handle_event(event):
            self._take(found)

    def _take(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            self.answer.headers |= {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, DataReceived):
            self.answer.body += event.data
        if isinstance(event, HeadersReceived | DataReceived) and event.stream_ended:
            self.ended.set()


async def get(
    port: int, host: str, path: str, authority: bytes, headers: dict[str, str] | None = None, seconds: float = 20
) -> Answer:
    """GET from 127.0.0.1, with `host` as the server name; its certificate must come from `authority` (PEM)."""
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=H3_ALPN, server_name=host, cadata=authority, verify_mode=ssl.CERT_REQUIRED
    )
    async with asyncio.timeout(seconds):
        async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client) as client:
            assert isinstance(client, Client)
            return await client.get(host, path, headers or {})
