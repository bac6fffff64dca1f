"""How long it takes until the fleet has what was published: from publishing to the last connected node's last ACK."""

import time
from typing import Final

from prometheus_client import Histogram

from xds_server.ads.hub import Hub

LOOK: Final = 1.0
"""Seconds after which a snapshot that is still on its way is looked at again."""


async def measure(hub: Hub, seconds: Histogram) -> None:
    """For ever. A snapshot that is overtaken on its way is not counted, nor one that nobody was there to get."""
    with hub.slot() as published:
        while True:
            await published.wait()
            published.clear()
            began, snapshot = time.monotonic(), hub.snapshot
            if snapshot is None or not any(row.connected for row in hub.board.rows):
                continue
            while not published.is_set():
                if not await hub.converged(snapshot, LOOK):
                    seconds.observe(time.monotonic() - began)
                    break
