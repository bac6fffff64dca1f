"""Addresses of an upstream: what goes by EDS, and what a DNS cluster carries itself."""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from envoy.config.core.v3.base_pb2 import Locality
from envoy.config.core.v3.health_check_pb2 import DRAINING, UNHEALTHY, UNKNOWN
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

from gateway import model
from xds_server.compiler.errors import CompileError
from xds_server.compiler.wire import socket_address, uint32

HEALTH: Final = {"healthy": UNKNOWN, "unhealthy": UNHEALTHY, "draining": DRAINING}
"""Healthy is UNKNOWN: Envoy's own checks have the say then."""


def is_address(host: str) -> bool:
    """Whether it is an IP address; EDS carries nothing else."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def assignment(cluster: str, endpoints: Iterable[model.Endpoint]) -> ClusterLoadAssignment:
    """The endpoints of a cluster, grouped by priority and zone, each group in the order of the document.

    Raises CompileError for a gap in the priorities: Envoy refuses the whole assignment then.
    """
    groups: dict[tuple[int, str], list[LbEndpoint]] = {}
    for endpoint in endpoints:
        groups.setdefault((endpoint.priority, endpoint.zone or ""), []).append(lb_endpoint(endpoint))
    priorities = {priority for priority, _ in groups}
    if priorities and max(priorities) != len(priorities) - 1:
        raise CompileError("the priorities of the endpoints have a gap", "endpoints")
    found = [
        LocalityLbEndpoints(locality=Locality(zone=zone) if zone else None, lb_endpoints=members, priority=priority)
        for (priority, zone), members in sorted(groups.items(), key=lambda item: item[0][0])
    ]
    return ClusterLoadAssignment(cluster_name=cluster, endpoints=found)


def lb_endpoint(endpoint: model.Endpoint) -> LbEndpoint:
    found = LbEndpoint(
        endpoint=Endpoint(address=socket_address(endpoint.address, endpoint.port)),
        load_balancing_weight=uint32(endpoint.weight),
    )
    if isinstance(endpoint, model.ServiceEndpoint):
        found.health_status = HEALTH[endpoint.state]
    return found
