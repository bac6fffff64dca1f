"""The agent's side towards the control planes: one delta ADS stream, as the node whose Envoy it looks after.

It asks for everything of every type (`*`): its node's view is what its Envoy may come to ask for, so no reference needs
to be followed. It has no opinion of its own and acknowledges all; what Envoy refuses, the control plane takes back.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import grpc
import structlog
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from google.protobuf.message import DecodeError

from xds_server.ads.server import ADS
from xds_server.ads.servicer import AGENT
from xds_server.ads.substream import WILDCARD
from xds_server.kept import resource_of
from xds_server.resources import PUSH_ORDER, Resource, Snapshot, TypeSnapshot

log = structlog.get_logger(__name__)

QUIET: Final = 0.2  # seconds that a change is given to arrive as a whole, over all types
FIRST_PAUSE: Final = 0.2  # seconds between attempts, doubled each time up to LONGEST_PAUSE
LONGEST_PAUSE: Final = 2.0

Channel = Callable[[str], Any]
"""Makes the grpc.aio.Channel to an address."""

Take = Callable[[Snapshot], Awaitable[None]]


class Follower:
    """`run` follows one of `addresses` ("host:port") after the other, for ever; `take` is given each whole view.

    `last`: what an earlier process was given. Its versions are told to the control plane, so nothing comes twice.
    """

    def __init__(
        self, node: Node, addresses: Sequence[str], channel: Channel, take: Take, last: Snapshot | None = None
    ) -> None:
        self._node = Node(user_agent_name=AGENT)
        self._node.MergeFrom(node)
        self._addresses, self._channel, self._take = addresses, channel, take
        self._held: dict[str, dict[str, Resource]] = {url: {} for url in PUSH_ORDER}
        self._missing = set(PUSH_ORDER)  # types that nothing is known of yet: without them a view is not whole
        self._news = asyncio.Event()
        self._reason = ""
        if last is not None:
            self._held |= {url: dict(of_type.resources) for url, of_type in last.types.items()}
            self._missing.clear()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hand_on())
            tasks.create_task(self._follow())

    async def _follow(self) -> None:
        pause, clock = FIRST_PAUSE, asyncio.get_running_loop().time
        for address in itertools.cycle(self._addresses):
            began = clock()
            reason = await self._until_lost(address)
            pause = FIRST_PAUSE if clock() - began > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
            if reason != self._reason:  # an outage is one line, not one a second
                log.warning("control_plane_lost", address=address, reason=reason)
            self._reason = reason
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    async def _until_lost(self, address: str) -> str:
        """One stream, or one attempt; why it is over."""
        try:
            async with self._channel(address) as channel:
                await self._stream(address, channel)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        except (DecodeError, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        return "the control plane ended the stream"

    async def _stream(self, address: str, channel: Any) -> None:
        call = channel.stream_stream(
            f"/{ADS}/DeltaAggregatedResources",
            request_serializer=DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=DeltaDiscoveryResponse.FromString,
        )()
        for request in self._requests():
            await call.write(request)
        first = True
        while (response := await call.read()) is not grpc.aio.EOF:
            if first:
                log.info("control_plane_found", address=address)
                first, self._reason = False, ""
            self._apply(response)
            await call.write(DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce))

    def _requests(self) -> Iterable[DeltaDiscoveryRequest]:
        for number, url in enumerate(PUSH_ORDER):
            yield DeltaDiscoveryRequest(
                node=self._node if number == 0 else None,
                type_url=url,
                resource_names_subscribe=[WILDCARD],
                initial_resource_versions={r.name: r.version for r in self._held[url].values()},
            )

    def _apply(self, response: DeltaDiscoveryResponse) -> None:
        held = self._held.setdefault(response.type_url, {})
        held.update((message.name, resource_of(message)) for message in response.resources)
        for name in response.removed_resources:
            held.pop(name, None)
        self._missing.discard(response.type_url)
        self._news.set()

    async def _hand_on(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(QUIET)
            self._news.clear()
            if not self._missing:
                await self._take(self._view())

    def _view(self) -> Snapshot:
        """Without a number: revisions are the control planes'."""
        return Snapshot(0, {url: TypeSnapshot(url, dict(sorted(held.items()))) for url, held in self._held.items()})
