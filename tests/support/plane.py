"""An xDS server in a process of its own: it publishes the revisions that it is told to, of a shape that it is told.

Every resource that changes carries `version=<revision>` where `tests.support.swarm` looks for it.
"""

import argparse
import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from tests.support.child import Child, answer
from xds_server.ads.hub import Hub
from xds_server.ads.server import AdsOptions, start
from xds_server.ads.servicer import Pace
from xds_server.resources import Serialised, Snapshot

LOOK = 0.005
"""Seconds between two looks at how late the loop is."""

FOR_EVER = 10**9
"""The version of what does not change: nobody waits for a newer one."""


@dataclass
class Content:
    """`clusters`, one table of `routes` and, if `size` is not 0, an extension of so many bytes."""

    clusters: int
    routes: int
    size: int
    still: bool
    """The clusters stay as they are; only routes and the extension change."""

    def __post_init__(self) -> None:
        self._fixed = [Cluster(name=f"cluster-{n:04}", alt_stat_name="service") for n in range(1, self.clusters)]
        self._serialised = Serialised()

    def snapshot(self, revision: int) -> Snapshot:
        made = Snapshot.of(revision, self._messages(revision), self._serialised.of)
        self._serialised.end()
        return made

    def _messages(self, revision: int) -> Iterator[Message]:
        version = f"version={revision}"
        yield Cluster(name="cluster-0000", alt_stat_name=f"version={FOR_EVER}" if self.still else version)
        yield from self._fixed
        table = RouteConfiguration(name="version")
        host = table.virtual_hosts.add(name=version, domains=["*"])
        for number in range(self.routes):
            route = host.routes.add()
            route.match.path = f"/service/{number}"
            route.route.cluster = f"cluster-{number % self.clusters:04}"
        yield table
        if self.size:
            value = AnyMessage(value=version.encode() + bytes(self.size))
            yield TypedExtensionConfig(name="blob", typed_config=value)


class Lag:
    """How late the loop comes back to a task that slept."""

    def __init__(self) -> None:
        self._late: list[float] = []

    async def watch(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(LOOK)
            self._late.append(time.monotonic() - began - LOOK)

    async def take(self) -> dict[str, float]:
        """Seconds, since this was asked last."""
        late, self._late = sorted(self._late), []
        return {"p99": late[int(0.99 * (len(late) - 1))], "max": late[-1]}


async def serve(port: int, revision: int, content: Content, pace: Pace) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    hub, lag = Hub(), Lag()
    hub.publish(content.snapshot(revision))
    server = await start(hub, f"127.0.0.1:{port}", options=AdsOptions(pace=pace))
    watching = asyncio.create_task(lag.watch())

    async def publish(number: str) -> float:
        """Monotonic seconds, which all processes of a machine share."""
        snapshot = content.snapshot(int(number))
        at = time.monotonic()
        hub.publish(snapshot)
        return at

    async def streams() -> int:
        return sum(row.connected for row in hub.board.rows)

    await answer(server.port, {"publish": publish, "lag": lag.take, "streams": streams})
    watching.cancel()
    await server.stop(0)


def plane(*, port: int = 0, revision: int = 0, **options: Any) -> Child:
    """A running one; `ready` is its port. Options as below."""
    more = [f"--{name}={value}" for name, value in options.items()]
    return Child("tests.support.plane", f"--port={port}", f"--revision={revision}", *more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, usual in {"port": 0, "revision": 0, "clusters": 1, "routes": 1, "size": 0, "still": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--write", type=float, default=Pace().write, help="seconds a response may stay unread")
    given = parser.parse_args()
    content = Content(given.clusters, given.routes, given.size, bool(given.still))
    asyncio.run(serve(given.port, given.revision, content, Pace(write=given.write)))


if __name__ == "__main__":
    main()
