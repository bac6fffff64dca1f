"""A talk over a real loopback channel: the same dialogues, with gRPC, tasks and bytes between the two sides.

That the server keeps silent is proven without waiting: the line asks for a probe, a resource of a type that goes out
after all others. Whatever the server had to say comes before it.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any, Final, TypeVar

import grpc
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse, DiscoveryResponse
from google.protobuf.any_pb2 import Any as AnyMessage

from tests.ads.dialogue import MAKERS, Line, Request
from tests.ads.simulated import Client, Kind, Response
from xds_server.ads.board import NodeRow
from xds_server.ads.events import Acked, Event, Nacked, Reject, Send
from xds_server.ads.hub import Hub
from xds_server.ads.server import AdsOptions, AdsServer, start
from xds_server.ads.servicer import Pace
from xds_server.resources import PREFIX, Resource, Snapshot, TypeSnapshot

T = TypeVar("T")

PROBE: Final = PREFIX + Filter.DESCRIPTOR.full_name
"""No xDS type, so it is last in the order of things."""

PROBES: Final = TypeSnapshot(PROBE, {name: Resource.of(Filter(name=name)) for name in ("probe-0", "probe-1")})

MESSAGES: Final = {url: type(make("x")) for url, make in MAKERS.items()}


class Loop:
    """An event loop in a thread of its own, so that a test can say one thing after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Channel(Line):
    """One stream to a server of its own. `patience`: how many seconds the server waits for this client."""

    def __init__(self, loop: Loop, kind: Kind, *, method: str = "", patience: float = 60.0) -> None:
        self.heard: list[Event] = []
        self._loop, self._kind, self._method, self._patience = loop, kind, method, patience
        self._hub, self._probes, self._spoke = Hub(), 0, False
        self._probe_nonce = ""
        self._snapshot = Snapshot.of(0, [])
        loop.run(self._open())

    async def _open(self) -> None:
        self._hub.listen(self._hear_of)
        options = AdsOptions(pace=Pace(clusters=self._patience))
        self._server: AdsServer = await start(self._hub, "127.0.0.1:0", options=options)
        self._channel: Any = grpc.aio.insecure_channel(
            f"127.0.0.1:{self._server.port}", options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self._client = Client(self._channel, self._kind, method=self._method)

    def close(self) -> None:
        self._loop.run(self._close())

    async def _close(self) -> None:
        self._client.call.cancel()
        await self._channel.close()
        await self._server.stop(0)

    def _hear_of(self, _row: NodeRow, event: Acked | Nacked) -> None:
        if event.type_url != PROBE:
            self.heard.append(event)

    def say(self, request: Request) -> None:
        self._spoke = True
        self._loop.run(self._write(request))

    async def _write(self, request: Request) -> None:
        await self._client.call.write(request)

    def publish(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._loop.run(self._publish(snapshot))

    async def _publish(self, snapshot: Snapshot) -> None:
        types = MappingProxyType({**snapshot.types, PROBE: PROBES})
        self._hub.publish(Snapshot(snapshot.revision, types))

    def drain(self) -> list[Send]:
        return self._loop.run(self._until_the_probe()) if self._spoke else []

    async def _until_the_probe(self) -> list[Send]:
        await self._write(self._probe())
        sends: list[Send] = []
        async with asyncio.timeout(20):
            while (response := await self._client.call.read()).type_url != PROBE:
                sends.append(sent(response))
        self._probe_nonce = response.nonce
        return sends

    def end(self) -> Reject:
        return self._loop.run(self._end())

    async def _end(self) -> Reject:
        """What was still under way is not of interest; nothing more is said, which would fail in a way of its own."""
        with suppress(grpc.aio.AioRpcError):
            while await self._client.call.read() is not grpc.aio.EOF:
                pass
        code, details = await self._client.end()
        return Reject(code.name, details)

    def _probe(self) -> Request:
        """Names take turns, so the one asked for is always new to the subscription."""
        name, other = f"probe-{self._probes % 2}", f"probe-{(self._probes + 1) % 2}"
        self._probes += 1
        if self._kind == "sotw":
            fields: dict[str, Any] = {"resource_names": [name]}
        else:
            fields = {"resource_names_subscribe": [name], "resource_names_unsubscribe": [other]}
        request: Request = self._client.request_type(type_url=PROBE, response_nonce=self._probe_nonce, **fields)
        return request

    def in_sync(self, type_url: str) -> bool:
        return self._loop.run(self._current(type_url)) == self._snapshot.types[type_url].version

    async def _current(self, type_url: str) -> str:
        (row,) = self._hub.board.rows
        return row.types[type_url].current_version

    def wait(self) -> None:
        self._loop.run(asyncio.sleep(self._patience + 0.2))


def sent(response: Response) -> Send:
    """What the server said, from the bytes: names and versions of resources are those of their content."""
    if isinstance(response, DiscoveryResponse):
        contents = tuple(_resource(resource) for resource in response.resources)
        return Send(response.type_url, response.nonce, response.version_info, contents)
    nobody = [wrapped.name for wrapped in response.resources if not wrapped.HasField("resource")]
    removed = (*response.removed_resources, *nobody)  # VHDS: a name without content is one that nobody has
    return Send(response.type_url, response.nonce, response.system_version_info, _named(response), removed)


def _named(response: DeltaDiscoveryResponse) -> tuple[Resource, ...]:
    found = []
    for wrapped in response.resources:
        if wrapped.HasField("resource"):
            resource = _resource(wrapped.resource)
            assert (wrapped.name, wrapped.version) == (resource.name, resource.version)
            found.append(resource)
    return tuple(found)


def _resource(any_message: AnyMessage) -> Resource:
    return Resource.of(MESSAGES[any_message.type_url].FromString(any_message.value))


@contextmanager
def looping() -> Iterator[Loop]:
    loop = Loop()
    try:
        yield loop
    finally:
        loop.close()
