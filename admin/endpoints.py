"""Endpoints of services: registered and kept by heartbeats, drained, deregistered, and shown as Envoys get them."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from admin.problems import not_found, refused
from db import audit, endpoints
from db import engine as engines
from db.endpoints import Registration
from db.rows import EndpointRow
from gateway.checks.upstreams import endpoints as checked
from gateway.model import EdsUpstream, ServiceEndpoint
from xds_server.compiler import Settings, unsafe_upstreams
from xds_server.endpoints.services import ServiceRegistry
from xds_server.rollout.publisher import Publisher


@dataclass(frozen=True)
class ServiceView:
    """`endpoints`: as Envoys get them, of all sources, each with its source. `upstreams`: who uses the service.

    `instances`: who registered, as the database has it.
    """

    name: str
    endpoints: tuple[tuple[ServiceEndpoint, str], ...]
    upstreams: tuple[str, ...]
    fault: str | None
    instances: tuple[EndpointRow, ...] = ()

    @property
    def states(self) -> Counter[str]:
        return Counter(endpoint.state for endpoint, _ in self.endpoints)


class Endpoints:
    def __init__(
        self, engine: AsyncEngine, publisher: Publisher, services: ServiceRegistry, settings: Settings
    ) -> None:
        self._engine = engine
        self._publisher = publisher
        self._services = services
        self._settings = settings

    async def put(self, actor: str, said: Registration) -> tuple[EndpointRow, bool]:
        """The instance and whether anything changed. A heartbeat that changes nothing is not audited.

        Raises ApiError 422 for an address that no upstream may have.
        """
        self._check(said)

        async def work(connection: AsyncConnection) -> tuple[EndpointRow, bool]:
            beating = await endpoints.heartbeat(connection, said)
            if beating is not None:
                return beating, False
            row = await endpoints.register(connection, said)
            await audit.append(
                connection, actor=actor, action="endpoint.register", object=name_of(said), detail=_detail(row)
            )
            return row, True

        return await engines.run(self._engine, work)

    async def drain(self, actor: str, service: str, instance: str, seconds: float) -> EndpointRow:
        """Raises ApiError 404."""

        async def work(connection: AsyncConnection) -> EndpointRow:
            row = await endpoints.drain(connection, service, instance, seconds)
            if row is None:
                raise not_found(f"instance {instance!r} of service {service!r}")
            detail = {"seconds": seconds}
            await audit.append(connection, actor=actor, action="endpoint.drain", object=name_of(row), detail=detail)
            return row

        return await engines.run(self._engine, work)

    async def deregister(self, actor: str, service: str, instance: str) -> bool:
        """Whether it was there: doing it again changes nothing."""

        async def work(connection: AsyncConnection) -> bool:
            if not await endpoints.deregister(connection, service, instance):
                return False
            await audit.append(connection, actor=actor, action="endpoint.deregister", object=f"{service}/{instance}")
            return True

        return await engines.run(self._engine, work)

    def services(self) -> tuple[ServiceView, ...]:
        """All that are known or that the gateway uses, by name."""
        return tuple(map(self._view, sorted({*self._services.services.endpoints, *self._used()})))

    async def service(self, name: str) -> ServiceView:
        """Raises ApiError 404."""
        rows = await engines.run(self._engine, lambda connection: endpoints.every(connection, name))
        if not rows and name not in self._services.services.endpoints and name not in self._used():
            raise not_found(f"service {name!r}")
        return self._view(name, rows)

    def _view(self, name: str, rows: tuple[EndpointRow, ...] = ()) -> ServiceView:
        known = self._services.services
        found = tuple(zip(known.endpoints.get(name, ()), known.origins.get(name, ()), strict=True))
        return ServiceView(name, found, tuple(self._used().get(name, ())), known.faults.get(name), rows)

    def _used(self) -> dict[str, list[str]]:
        published = self._publisher.state.published
        found: dict[str, list[str]] = {}
        for name, spec in published.gateway.upstreams.items() if published else ():
            if isinstance(spec, EdsUpstream):
                found.setdefault(spec.service, []).append(name)
        return found

    def _check(self, said: Registration) -> None:
        alone = ServiceEndpoint(address=said.address, port=said.port)
        for problem in checked((alone,), ()):
            raise refused("/address", problem.message, problem.help)
        fault = unsafe_upstreams.fault(self._settings, said.address, said.port)
        if fault is not None:
            raise refused("/address", fault)


def name_of(one: Registration | EndpointRow) -> str:
    return f"{one.service}/{one.instance}"


def _detail(row: EndpointRow) -> dict[str, Any]:
    names = ("address", "port", "weight", "zone", "priority", "state", "labels", "ttl")
    return {name: value for name in names if (value := getattr(row, name)) not in (None, {})}
