"""Endpoints of services as assignments: a step of its own, since they change by the second and nothing else does.

What goes into a ClusterLoadAssignment here satisfies Envoy's rules by construction: the model bounds ports, weights and
priorities, an address is an IP address, no endpoint is there twice, and priorities have no gap. So no Envoy is asked.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

from gateway.model import EdsUpstream, Gateway, ServiceEndpoint
from gateway.problems import Problem
from xds_server.compiler import unsafe_upstreams
from xds_server.compiler.endpoints import assignment
from xds_server.compiler.settings import Settings
from xds_server.resources import ENDPOINTS, Resource, Snapshot, TypeSnapshot

Known = Mapping[str, tuple[ServiceEndpoint, ...]]
"""Endpoints by service. A service that is not in it is one of which nobody has told anything."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """`snapshot` has the endpoints that are known; it shares all else with the one that it was made from."""

    snapshot: Snapshot
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class Assigner:
    """Puts endpoints into compiled snapshots. Remembers what it made, for time in proportion to what changed."""

    settings: Settings
    _made: dict[str, tuple[tuple[ServiceEndpoint, ...], Resource]] = field(default_factory=dict)

    def assign(self, gateway: Gateway, compiled: Snapshot, known: Known, *, complete: bool = True) -> Assigned:
        """`compiled` is the gateway's. `complete`: whether `known` is all; else what it lacks is left out.

        An assignment that is left out takes nothing from an Envoy that has one.
        """
        before = compiled.types[ENDPOINTS].resources
        services = {name: spec.service for name, spec in _of_services(gateway) if name in before}
        found = {name: self._resource(name, known[service]) for name, service in services.items() if service in known}
        unknown = {name for name, service in services.items() if service not in known}
        hidden = frozenset() if complete else unknown
        after = {name: found.get(name, one) for name, one in before.items() if name not in hidden}
        self._made = {name: made for name, made in self._made.items() if name in services}
        return Assigned(_with(compiled, after), tuple(self._problems(gateway, known)))

    def _resource(self, cluster: str, endpoints: tuple[ServiceEndpoint, ...]) -> Resource:
        made = self._made.get(cluster)
        if made is None or made[0] != endpoints:
            safe = (one for one in endpoints if self._unsafe(one) is None)
            made = self._made[cluster] = (endpoints, Resource.of(of_service(cluster, safe)))
        return made[1]

    def _unsafe(self, endpoint: ServiceEndpoint) -> str | None:
        return unsafe_upstreams.fault(self.settings, endpoint.address, endpoint.port)

    def _problems(self, gateway: Gateway, known: Known) -> Iterator[Problem]:
        for name, spec in _of_services(gateway):
            path = ("upstreams", name, "service")
            if spec.service not in known:
                message = f"nobody has told the endpoints of the service '{spec.service}': every request gets 503"
                help_ = f"gwctl endpoints register {spec.service} INSTANCE ADDRESS:PORT"
                yield Problem("GW607", path, message, help_, "warning")
            for endpoint in known.get(spec.service, ()):
                why = self._unsafe(endpoint)
                if why is not None:
                    message = f"the endpoint is left out: {why}"
                    yield Problem(unsafe_upstreams.UNSAFE, path, message, severity="warning")


def of_service(cluster: str, endpoints: Iterable[ServiceEndpoint]) -> ClusterLoadAssignment:
    """Who registers does not see the others, so a priority may be missing: the ones that are there close up."""
    found = tuple(endpoints)
    ranks = {priority: rank for rank, priority in enumerate(sorted({one.priority for one in found}))}
    return assignment(cluster, [one.model_copy(update={"priority": ranks[one.priority]}) for one in found])


def _of_services(gateway: Gateway) -> Sequence[tuple[str, EdsUpstream]]:
    return [(name, spec) for name, spec in gateway.upstreams.items() if isinstance(spec, EdsUpstream)]


def _with(snapshot: Snapshot, endpoints: Mapping[str, Resource]) -> Snapshot:
    if endpoints == snapshot.types[ENDPOINTS].resources:
        return snapshot
    types = {**snapshot.types, ENDPOINTS: TypeSnapshot(ENDPOINTS, MappingProxyType(endpoints))}
    return replace(snapshot, types=MappingProxyType(types))
