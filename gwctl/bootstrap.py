"""How an Envoy joins: `envoy/bootstrap.yaml` with the values of one node set in it, by structure and never by text."""

import copy
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from gwctl.xds_tls import ClientTls

PACKAGED: Final = Path(__file__).parent / "data" / "envoy" / "bootstrap.yaml"
SOURCE_TREE: Final = Path(__file__).parent.parent / "envoy" / "bootstrap.yaml"

AGENT: Final = "tollhouse/agent"

Bootstrap = dict[str, Any]
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Node:
    """One Envoy. `admin` and `xds` are host and port; `max_heap` is bytes, which overload protection reckons from.

    `agent`: where the node's agent listens, which Envoy turns to when it cannot reach a control plane.
    """

    id: str
    admin: Address
    xds: Address
    cluster: str = "tollhouse"
    max_heap: int = 1 << 30
    max_connections: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    region: str = ""
    zone: str = ""
    tls: ClientTls | None = None
    agent: Address | None = None


def template() -> Bootstrap:
    """The file as shipped: of the installed package, or of the source tree."""
    path = PACKAGED if PACKAGED.exists() else SOURCE_TREE
    loaded: Bootstrap = yaml.safe_load(path.read_text())
    return loaded


def render(node: Node, base: Bootstrap) -> Bootstrap:
    """A copy of `base` for that node. Raises KeyError or ValueError if `base` lacks a part that must be set."""
    made = copy.deepcopy(base)
    made["node"] |= {"id": node.id, "cluster": node.cluster} | _place(node)
    _set_address(made["admin"]["address"], node.admin)
    (cluster,) = made["static_resources"]["clusters"]
    _set_address(cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"], node.xds)
    if node.tls is not None:
        cluster["transport_socket"] = node.tls.transport_socket()
    if node.agent is not None:
        _add_agent(made, cluster, node.agent)
    monitors = {
        monitor["name"].rpartition(".")[2]: monitor for monitor in made["overload_manager"]["resource_monitors"]
    }
    monitors["fixed_heap"]["typed_config"]["max_heap_size_bytes"] = node.max_heap
    limit = node.max_connections or half_of_the_descriptors()
    monitors["global_downstream_max_connections"]["typed_config"]["max_active_downstream_connections"] = limit
    return made


def write(node: Node, path: Path) -> Path:
    """Renders the shipped template into the file `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dump(render(node, template())))
    return path


def dump(made: Bootstrap) -> str:
    return yaml.safe_dump(made, sort_keys=False)


def half_of_the_descriptors() -> int:
    """A connection from a client needs one to an upstream: each may take two of the process's file descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 50_000 if soft == resource.RLIM_INFINITY else max(64, min(50_000, soft // 2 - 64))


def _add_agent(made: Bootstrap, xds: Bootstrap, agent: Address) -> None:
    """A second source of all that comes over ADS: Envoy tries them in this order (`xds_failover_support`)."""
    cluster = copy.deepcopy(xds) | {"name": AGENT, "type": "STATIC"}
    for word in ("load_assignment", "transport_socket", "dns_lookup_family"):
        cluster.pop(word, None)  # it is this machine's loopback: no name to look up, nobody to hide from
    endpoint: Bootstrap = {"address": {"socket_address": {}}}
    _set_address(endpoint["address"], agent)
    cluster["load_assignment"] = {"cluster_name": AGENT, "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]}
    made["static_resources"]["clusters"].append(cluster)
    services = made["dynamic_resources"]["ads_config"]["grpc_services"]
    service = copy.deepcopy(services[0])
    service["envoy_grpc"]["cluster_name"] = AGENT
    services.append(service)


def _place(node: Node) -> Bootstrap:
    """What selectors go by."""
    made: Bootstrap = {"metadata": {"labels": dict(node.labels)}} if node.labels else {}
    if node.region or node.zone:
        made["locality"] = {"region": node.region, "zone": node.zone}
    return made


def _set_address(address: Bootstrap, value: Address) -> None:
    address["socket_address"] |= {"address": value[0], "port_value": value[1]}
