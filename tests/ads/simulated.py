"""A simulated ADS client over a real channel: it says, accepts, refuses and keeps silent as it is told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import grpc
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from google.rpc.status_pb2 import Status

from xds_server.ads.server import ADS

Kind = Literal["sotw", "delta"]
Response = DiscoveryResponse | DeltaDiscoveryResponse
Opinion = Callable[[Response], str | None]
"""What to answer: "" accepts, any other text refuses with it, None keeps silent."""

MESSAGES: dict[Kind, tuple[Any, Any, str]] = {
    "sotw": (DiscoveryRequest, DiscoveryResponse, "StreamAggregatedResources"),
    "delta": (DeltaDiscoveryRequest, DeltaDiscoveryResponse, "DeltaAggregatedResources"),
}


def accept(response: Response) -> str:
    return ""


class Client:
    """One stream. `log` has every response in the order of arrival."""

    def __init__(self, channel: Any, kind: Kind, *, node: str = "sim", method: str = "") -> None:
        self.request_type, response_type, name = MESSAGES[kind]
        self.kind = kind
        self.node = node
        self.log: list[Response] = []
        self.names: dict[str, tuple[str, ...]] = {}
        self.call = channel.stream_stream(
            method or f"/{ADS}/{name}",
            request_serializer=lambda request: request if isinstance(request, bytes) else request.SerializeToString(),
            response_deserializer=response_type.FromString,
        )()

    async def say(self, type_url: str = "", *names: str, **fields: Any) -> None:
        """A request; it carries the node until the first response."""
        self.names[type_url] = names
        field = "resource_names" if self.kind == "sotw" else "resource_names_subscribe"
        node = None if self.log else Node(id=self.node, cluster="edge")
        await self.call.write(self.request_type(**{"node": node, "type_url": type_url, field: names, **fields}))

    async def hear(self, seconds: float = 10.0) -> Response:
        async with asyncio.timeout(seconds):
            response = await self.call.read()
        assert response is not grpc.aio.EOF, f"the stream ended: {await self.call.details()}"
        self.log.append(response)
        return response  # type: ignore[no-any-return]

    async def answer(self, response: Response, error: str = "") -> None:
        """ACK, or NACK with this message."""
        fields: dict[str, Any] = {"type_url": response.type_url, "response_nonce": response.nonce}
        if self.kind == "sotw":
            fields["resource_names"] = self.names[response.type_url]
        if error:
            fields["error_detail"] = Status(code=13, message=error)
        await self.call.write(self.request_type(**fields))

    async def take(self) -> Response:
        """Hear one response and accept it."""
        response = await self.hear()
        await self.answer(response)
        return response

    async def live(self, opinion: Opinion = accept) -> None:
        """Answer whatever comes, until cancelled or the stream ends."""
        while True:
            response = await self.call.read()
            if response is grpc.aio.EOF:
                return
            self.log.append(response)
            error = opinion(response)
            if error is not None:
                await self.answer(response, error)

    async def end(self) -> tuple[Any, str]:
        """Wait for the server to end the stream: status code and details."""
        async with asyncio.timeout(10):
            return await self.call.code(), await self.call.details()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Any]:
    """A channel of its own, closed at the end. What is not read stays with the server but for a fixed small window."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.http2.bdp_probe", 0),
    ]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield channel
