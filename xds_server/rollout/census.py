"""What this control plane's nodes have, told to the others: changes in batches, a refusal at once."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import engine as engines
from db import nodes
from db.rows import FleetNode
from xds_server.ads.board import NodeRow
from xds_server.ads.events import Acked, Nacked
from xds_server.ads.hub import Hub
from xds_server.ads.views import Record

log = structlog.get_logger(__name__)

LOOK: Final = 0.15  # seconds between two looks at what has changed
BEAT: Final = 2.0  # seconds between two signs of life
TIDY: Final = 60.0  # seconds between two times that what is gone is forgotten
SHOWN: Final = 20  # names of a refused response


class Census:
    """`run` for ever. `nacked` is set when a node refuses something; whoever waits for it clears it."""

    def __init__(self, engine: AsyncEngine, hub: Hub, replica: str) -> None:
        self.nacked = asyncio.Event()
        self._engine, self._hub, self._replica = engine, hub, replica
        self._told: dict[str, FleetNode] = {}
        self._refusals: dict[str, dict[str, Any]] = {}
        self._hurry = asyncio.Event()
        hub.listen(self._hear)

    async def run(self) -> None:
        """What could not be written is written later: the next look finds it still different."""
        now = asyncio.get_running_loop().time
        beat = tidy = 0.0
        try:
            while True:
                due = now() >= beat
                if due or self._changed():
                    beat = now() + BEAT if await self._tell() else now() + LOOK
                if now() >= tidy:
                    tidy = now() + TIDY
                    await self._try(nodes.tidy)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):
                        await self._hurry.wait()
                self._hurry.clear()
        finally:
            await self._try(lambda connection: nodes.leave(connection, self._replica))

    async def report(self, connection: AsyncConnection) -> None:
        """All that is known now, in the caller's transaction; it is told again if that fails."""
        await nodes.report(connection, self._replica, self._changed().values())

    async def _tell(self) -> bool:
        changed = self._changed()
        if not await self._try(lambda connection: nodes.report(connection, self._replica, changed.values())):
            return False
        self._told |= changed
        self._forget()
        return True

    async def _try(self, work: Any) -> bool:
        try:
            await engines.run(self._engine, work, deadline=BEAT)
        except engines.Unavailable as error:
            log.debug("fleet_not_told", reason=str(error))
            return False
        return True

    def _changed(self) -> Mapping[str, FleetNode]:
        seen = ((name, self._described(name, record)) for name, record in self._hub.views.records.items())
        return {name: node for name, node in seen if self._told.get(name) != node}

    def _forget(self) -> None:
        """What the hub has forgotten is gone for long."""
        known = self._hub.views.records
        self._told = {name: node for name, node in self._told.items() if name in known}
        self._refusals = {name: said for name, said in self._refusals.items() if name in known}

    def _described(self, name: str, record: Record) -> FleetNode:
        node = record.node
        return FleetNode(
            id=name,
            cluster=node.cluster,
            labels=dict(node.labels),
            region=node.region,
            zone=node.zone,
            connected=record.streams > 0,
            revision=record.revision,
            rejected=record.rejected,
            nack=self._refusals.get(name) if record.rejected else None,
        )

    def _hear(self, row: NodeRow, event: Acked | Nacked) -> None:
        if not isinstance(event, Nacked):
            return
        names = list(event.names[:SHOWN])
        said = {"type": event.type_url, "version": event.version, "message": event.message, "names": names}
        self._refusals[row.id] = said
        self.nacked.set()
        self._hurry.set()
