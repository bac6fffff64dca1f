"""Endpoints of services as assignments: a step of its own, since they change by the second and nothing else does.

What goes into a ClusterLoadAssignment here satisfies Envoy's rules by construction: the model bounds ports, weights and
priorities, an address is an IP address, no endpoint is there twice, and priorities have no gap. So no Envoy is asked.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

from gateway.model import EdsUpstream, Gateway, ServiceEndpoint
from gateway.problems import Problem
from xds_server.compiler import unsafe_upstreams
from xds_server.compiler.endpoints import assignment, is_address
from xds_server.compiler.settings import Settings
from xds_server.resources import ENDPOINTS, Resource, Snapshot, TypeSnapshot

Known = Mapping[str, tuple[ServiceEndpoint, ...]]
"""Endpoints by service. A service that is not in it is one of which nobody has told anything."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """`snapshot` has the endpoints that are known; it shares all else with the one that it was made from."""

    snapshot: Snapshot
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """The assignment of one upstream. `faults`: why an endpoint is not in it."""

    endpoints: tuple[ServiceEndpoint, ...]
    resource: Resource
    faults: tuple[str, ...]


@dataclass(slots=True)
class Assigner:
    """Puts endpoints into compiled snapshots. Remembers what it made, for time in proportion to what changed."""

    settings: Settings
    _made: dict[str, Made] = field(default_factory=dict)

    def assign(self, gateway: Gateway, compiled: Snapshot, known: Known, *, complete: bool = True) -> Assigned:
        """`compiled` is the gateway's. `complete`: whether `known` is all; else what it lacks is left out.

        An assignment that is left out takes nothing from an Envoy that has one.
        """
        services = {name: spec.service for name, spec in gateway.upstreams.items() if isinstance(spec, EdsUpstream)}
        self._made = {name: self._of(name, known[service]) for name, service in services.items() if service in known}
        before = compiled.types[ENDPOINTS].resources
        hidden = frozenset() if complete else services.keys() - self._made.keys()
        after = {name: self._new(name, one) for name, one in before.items() if name not in hidden}
        return Assigned(_with(compiled, after), tuple(self._problems(services)))

    def _new(self, cluster: str, old: Resource) -> Resource:
        made = self._made.get(cluster)
        return old if made is None else made.resource

    def _of(self, cluster: str, endpoints: tuple[ServiceEndpoint, ...]) -> Made:
        made = self._made.get(cluster)
        if made is not None and made.endpoints == endpoints:
            return made
        faults = [self._fault(one) for one in endpoints]
        safe = (one for one, fault in zip(endpoints, faults, strict=True) if fault is None)
        return Made(endpoints, Resource.of(of_service(cluster, safe)), tuple(filter(None, faults)))

    def _fault(self, endpoint: ServiceEndpoint) -> str | None:
        if not is_address(endpoint.address):  # Envoy would refuse the whole assignment
            return f"'{endpoint.address}' is not an IP address"
        return unsafe_upstreams.fault(self.settings, endpoint.address, endpoint.port)

    def _problems(self, services: Mapping[str, str]) -> Iterator[Problem]:
        for name, service in services.items():
            path, made = ("upstreams", name, "service"), self._made.get(name)
            if made is None:
                message = f"nobody has told the endpoints of the service '{service}': every request gets 503"
                help_ = f"gwctl endpoints register {service} INSTANCE ADDRESS:PORT"
                yield Problem("GW607", path, message, help_, "warning")
            for fault in made.faults if made else ():
                message = f"the endpoint is left out: {fault}"
                yield Problem(unsafe_upstreams.UNSAFE, path, message, severity="warning")


def of_service(cluster: str, endpoints: Iterable[ServiceEndpoint]) -> ClusterLoadAssignment:
    """Who registers does not see the others, so a priority may be missing: the ones that are there close up."""
    found = tuple(endpoints)
    ranks = {priority: rank for rank, priority in enumerate(sorted({one.priority for one in found}))}
    return assignment(cluster, [one.model_copy(update={"priority": ranks[one.priority]}) for one in found])


def _with(snapshot: Snapshot, endpoints: Mapping[str, Resource]) -> Snapshot:
    if endpoints == snapshot.types[ENDPOINTS].resources:
        return snapshot
    types = {**snapshot.types, ENDPOINTS: TypeSnapshot(ENDPOINTS, MappingProxyType(endpoints))}
    return replace(snapshot, types=MappingProxyType(types))
