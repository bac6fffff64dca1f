"""Simulated ADS clients, all in one process apart from the server; what they saw is what judges the server.

Every client has a connection of its own, comes back when its stream ends, and notes each version that it is given.
"""

import argparse
import asyncio
import random
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, get_args

import grpc
from envoy.config.core.v3.base_pb2 import Node

from tests.ads.simulated import Client, Kind, Response
from tests.support.child import Child, answer
from xds_server.resources import CLUSTER, EXTENSION, ROUTES

Role = Literal["taking", "silent", "stalled", "flood"]
"""Takes what comes; never answers; never reads; asks without end for what it has."""

TYPES = {"clusters": (CLUSTER, ()), "routes": (ROUTES, ("version",)), "blob": (EXTENSION, ("blob",))}
FLOOD = 4096
"""Bytes of each request of a flood: buffers on the way are soon full."""
VERSION = re.compile(rb"version=(\d+)")
OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.http2.bdp_probe", 0),  # what is not read stays with the server but for a small window
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


@dataclass(frozen=True)
class Seen:
    """One version in one response; `at` is in monotonic seconds, which all processes of a machine share."""

    stream: int
    type: str
    version: int
    at: float


class One:
    """One client through all its streams."""

    def __init__(self, name: str, kind: Kind, role: Role, types: tuple[str, ...]) -> None:
        self.name, self.kind, self.role, self.types = name, kind, role, types
        self.seen: list[Seen] = []
        self.newest: dict[str, int] = {}
        self.streams = 0
        self.said = 0
        self._has: dict[str, dict[str, str]] = {}

    async def live(self, port: int) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
            while True:
                with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await self._stream(Client(channel, self.kind, node=self.name))
                await asyncio.sleep(random.uniform(0.05, 0.3))

    async def _stream(self, client: Client) -> None:
        self.streams += 1
        for name in self.types:
            await self._ask(client, name)
        if self.role == "stalled":
            await client.call.code()
        if self.role == "flood":
            node = Node(id=self.name, user_agent_name="x" * FLOOD)
            while True:
                await client.say(TYPES[self.types[0]][0], node=node)
                self.said += 1
        while (response := await client.call.read()) is not grpc.aio.EOF:
            self._see(response)
            if self.role == "taking":
                await client.answer(response)

    async def _ask(self, client: Client, name: str) -> None:
        url, names = TYPES[name]
        has = self._has.get(url, {})
        await client.say(url, *names, **({"initial_resource_versions": has} if self.kind == "delta" else {}))

    def _see(self, response: Response) -> None:
        at = time.monotonic()
        for data in self._contents(response):
            if found := VERSION.search(data, 0, 200):
                self.newest[response.type_url] = int(found[1])
                self.seen.append(Seen(self.streams, response.type_url, int(found[1]), at))
                return

    def _contents(self, response: Any) -> Iterator[bytes]:
        if self.kind == "sotw":
            yield from (resource.value for resource in response.resources)
        else:
            has = self._has.setdefault(response.type_url, {})
            has.update({resource.name: resource.version for resource in response.resources})
            yield from (resource.resource.value for resource in response.resources)

    def at_least(self, version: int) -> bool:
        return all(self.newest.get(TYPES[name][0], -1) >= version for name in self.types)


class Swarm:
    """Clients and what may be asked of them."""

    def __init__(self, port: int, ones: list[One]) -> None:
        self._port, self._ones = port, ones
        self._lives: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        self._lives = [asyncio.create_task(one.live(self._port)) for one in self._ones]

    async def drop(self) -> float:
        """All connections are gone at once, and all clients come back at once; when."""
        for life in self._lives:
            life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)
        at = time.monotonic()
        await self.begin()
        return at

    async def until(self, version: str, seconds: str) -> list[str]:
        """Who does not have the version of every type, or a later one, after so long at most."""
        deadline = time.monotonic() + float(seconds)
        while behind := [one.name for one in self._ones if not one.at_least(int(version))]:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.002 if len(self._ones) < 100 else 0.02)
        return behind

    async def log(self) -> dict[str, Any]:
        """All that each has seen since this was asked last."""
        seen = {one.name: [[s.stream, s.type, s.version, s.at] for s in one.seen] for one in self._ones}
        for one in self._ones:
            one.seen.clear()
        return seen

    async def said(self) -> int:
        return sum(one.said for one in self._ones)

    async def streams(self) -> int:
        """How many streams were begun by all together."""
        return sum(one.streams for one in self._ones)


@dataclass(frozen=True)
class Clients:
    """The swarm as the test sees it."""

    child: Child

    def until(self, version: int, seconds: float = 20) -> list[str]:
        return list(self.child.ask("until", version, seconds))

    def drop(self) -> float:
        return float(self.child.ask("drop"))

    @property
    def said(self) -> int:
        return int(self.child.ask("said"))

    @property
    def streams(self) -> int:
        return int(self.child.ask("streams"))

    def log(self) -> dict[str, list[Seen]]:
        return {name: [Seen(*entry) for entry in seen] for name, seen in self.child.ask("log").items()}

    def __enter__(self) -> "Clients":
        return self

    def __exit__(self, *_: object) -> None:
        self.child.__exit__()


def swarm(
    port: int, count: int, *, kinds: str = "sotw,delta", role: Role = "taking", types: str = "clusters,routes"
) -> Clients:
    """`count` running clients of these kinds in turn."""
    return Clients(Child("tests.support.swarm", port, count, f"--kinds={kinds}", f"--role={role}", f"--types={types}"))


async def run(given: argparse.Namespace) -> None:
    kinds, types = given.kinds.split(","), tuple(given.types.split(","))
    ones = [One(f"{given.role}-{n}", kinds[n % len(kinds)], given.role, types) for n in range(given.count)]
    clients = Swarm(given.port, ones)
    await clients.begin()
    commands = {name: getattr(clients, name) for name in ("drop", "until", "log", "said", "streams")}
    await answer(given.count, commands)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--kinds", default="sotw,delta")
    parser.add_argument("--role", choices=get_args(Role), default="taking")
    parser.add_argument("--types", default="clusters,routes")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
