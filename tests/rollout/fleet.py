"""A fleet of simulated nodes, each with a stream of its own, that take or refuse what they are given."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from envoy.config.core.v3.base_pb2 import Node
from google.rpc.status_pb2 import Status

from tests.ads.simulated import MESSAGES, connected
from xds_server.ads.server import ADS
from xds_server.resources import CLUSTER, LISTENER

Opinion = Callable[[frozenset[str]], str | None]
"""Of the names of the clusters that a response has: "" takes them, another text refuses, None keeps silent."""


def takes(_: frozenset[str]) -> str:
    return ""


def refuses_bad(clusters: frozenset[str]) -> str:
    bad = sorted(name for name in clusters if name.startswith("bad"))
    return f"{bad[0]}: the port is taken" if bad else ""


def silent_about_bad(clusters: frozenset[str]) -> str | None:
    return None if any(name.startswith("bad") for name in clusters) else ""


@dataclass
class Sim:
    """`has`: the clusters that it took last; `offered`: all clusters that it was ever sent."""

    id: str
    labels: dict[str, str] = field(default_factory=dict)
    opinion: Opinion = takes
    has: frozenset[str] = frozenset()
    offered: set[str] = field(default_factory=set)
    responses: int = 0

    @property
    def message(self) -> Node:
        node = Node(id=self.id, cluster="edge")
        if self.labels:
            node.metadata.update({"labels": self.labels})
        return node

    async def live(self, channel: Any) -> None:
        request, response, method = MESSAGES["sotw"]
        call = channel.stream_stream(
            f"/{ADS}/{method}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )()
        try:
            for url in (CLUSTER, LISTENER):
                await call.write(request(node=self.message, type_url=url))
            while (found := await call.read()) is not grpc.aio.EOF:
                await self._answer(call, request, found)
        finally:
            call.cancel()

    async def _answer(self, call: Any, request: Any, found: Any) -> None:
        self.responses += 1
        said: str | None = ""
        if found.type_url == CLUSTER:
            names = frozenset(_name(one.value) for one in found.resources)
            self.offered |= names
            said = self.opinion(names)
            self.has = names if said == "" else self.has
        if said is not None:
            detail = Status(code=13, message=said) if said else None
            answer = {"type_url": found.type_url, "response_nonce": found.nonce, "version_info": found.version_info}
            await call.write(request(**answer, error_detail=detail))


def _name(data: bytes) -> str:
    from envoy.config.cluster.v3.cluster_pb2 import Cluster

    return Cluster.FromString(data).name


@asynccontextmanager
async def fleet(port: int, sims: Iterable[Sim]) -> AsyncIterator[None]:
    """They live until the end of the context, over one connection."""
    async with connected(port) as channel:
        lives = [asyncio.create_task(sim.live(channel)) for sim in sims]
        try:
            yield
        finally:
            for life in lives:
                life.cancel()
            await asyncio.gather(*lives, return_exceptions=True)
