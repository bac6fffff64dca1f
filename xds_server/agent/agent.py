"""The node's agent: keeps what its Envoy is to have on the node's own disk, and serves it when no control plane can.

Envoy has it as its second ADS source and turns to it only if it cannot reach the first. The versions are the same, so
going from one to the other sends nothing twice.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from envoy.config.core.v3.base_pb2 import Node

from xds_server.ads import server
from xds_server.ads.hub import Hub
from xds_server.agent.follower import Channel, Follower
from xds_server.kept import KeptFile, Unusable
from xds_server.resources import Snapshot

log = structlog.get_logger(__name__)

FILE: Final = "view"

STREAM_AGE: Final = 10.0
"""Seconds that Envoy's stream to the agent lives.

It does reach out for its control plane meanwhile, but says nothing there as long as it has this stream, and so would
stay for ever (Envoy 1.40, measured). When it is sent away it goes there first.
"""


class Agent:
    """`start` serves at once what is on the disk; `run` keeps it new, until cancelled; `stop` ends the streams."""

    def __init__(self, node: Node, addresses: Sequence[str], channel: Channel, file: Path) -> None:
        self.hub = Hub()
        self._node, self._file = node, KeptFile(file)
        last = self._kept()
        if last is not None:
            self.hub.publish(last)
        self.follower = Follower(node, addresses, channel, self._take, last)

    async def start(self, address: str) -> int:
        """Listen on "host:port" or "unix:/path", of this machine only; the port. Raises OSError, ValueError."""
        self._server = await server.start(self.hub, address, options=server.AdsOptions(max_age=STREAM_AGE))
        return self._server.port

    async def run(self) -> None:
        await self.follower.run()

    async def stop(self) -> None:
        await self._server.stop(1.0)

    async def _take(self, snapshot: Snapshot) -> None:
        """Served first: a disk that is full must not keep what is new from Envoy."""
        if self.hub.snapshot is not None and self.hub.snapshot.version == snapshot.version:
            return
        self.hub.publish(snapshot)
        about = {"node": self._node.id, "at": datetime.now(UTC).isoformat()}
        try:
            await asyncio.to_thread(self._file.write, snapshot, about)
        except OSError as error:
            log.error("view_not_kept", reason=str(error))
        else:
            log.info("view_kept", version=snapshot.version, file=str(self._file.path))

    def _kept(self) -> Snapshot | None:
        try:
            found = self._file.read()
            if found is None:
                return None
            snapshot, about = found
            if about.get("node") != self._node.id:
                raise Unusable(f"{self._file.path} is another node's")
        except (Unusable, OSError, AttributeError) as error:
            log.error("kept_view_refused", reason=str(error), effect="a control plane is waited for")
            return None
        log.info("kept_view_read", version=snapshot.version, at=about.get("at"))
        return snapshot
