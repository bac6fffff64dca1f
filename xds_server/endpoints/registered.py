"""Endpoints as instances registered them over the control API, from the database."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from itertools import groupby
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from db import endpoints
from db import engine as engines
from db.rows import EndpointRow
from db.watch import Watch
from gateway.model import ServiceEndpoint
from xds_server.endpoints.services import Services

log = structlog.get_logger(__name__)

RETRY: Final = 0.5  # seconds
MOST_TOLD: Final = 10  # names of instances in one line of the log


class Registered:
    """Reads all instances when their version has changed. While the database is away the last ones stay."""

    name = "registry"

    def __init__(self, engine: AsyncEngine, watch: Watch[int]) -> None:
        self.services: Services | None = None
        self._engine = engine
        self._watch = watch

    async def run(self, changed: Callable[[], None]) -> None:
        before: frozenset[str] = frozenset()
        async with aclosing(self._watch.values()) as versions:
            async for version in versions:
                rows = await self._read()
                now = frozenset(f"{row.service}/{row.instance}" for row in rows)
                told = {"joined": sorted(now - before)[:MOST_TOLD], "left": sorted(before - now)[:MOST_TOLD]}
                log.info("endpoints_read", version=version, instances=len(now), **told)
                before, self.services = now, of(rows)
                changed()

    async def _read(self) -> tuple[EndpointRow, ...]:
        while True:
            try:
                return await engines.run(self._engine, endpoints.every)
            except engines.Unavailable as error:
                log.warning("endpoints_delayed", reason=str(error))
                await asyncio.sleep(RETRY)


def of(rows: tuple[EndpointRow, ...]) -> Services:
    """`rows` by service. Of two instances at one address the newer one is believed: the other one's time runs out."""
    services = groupby(rows, key=lambda row: row.service)
    return Services({service: tuple(map(endpoint, members)) for service, members in services})


def endpoint(row: EndpointRow) -> ServiceEndpoint:
    return ServiceEndpoint.model_validate(
        {name: getattr(row, name) for name in ("address", "port", "weight", "zone", "priority", "state")}
    )
