"""Addresses of an upstream: what goes by EDS, and what a DNS cluster carries itself."""

from collections.abc import Iterable
from ipaddress import ip_address

from envoy.config.core.v3.base_pb2 import Locality
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

from gateway import model
from xds_server.compiler.wire import socket_address, uint32


def is_address(host: str) -> bool:
    """Whether it is an IP address; EDS carries nothing else."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def assignment(cluster: str, endpoints: Iterable[model.Endpoint]) -> ClusterLoadAssignment:
    """The endpoints of a cluster, grouped by zone in the order of the document."""
    zones: dict[str, list[LbEndpoint]] = {}
    for endpoint in endpoints:
        zones.setdefault(endpoint.zone or "", []).append(lb_endpoint(endpoint))
    groups = [
        LocalityLbEndpoints(locality=Locality(zone=zone) if zone else None, lb_endpoints=found)
        for zone, found in zones.items()
    ]
    return ClusterLoadAssignment(cluster_name=cluster, endpoints=groups)


def lb_endpoint(endpoint: model.Endpoint) -> LbEndpoint:
    address = socket_address(endpoint.address, endpoint.port)
    return LbEndpoint(endpoint=Endpoint(address=address), load_balancing_weight=uint32(endpoint.weight))
