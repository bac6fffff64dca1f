"""How an Envoy joins: `envoy/bootstrap.yaml` with the values of one node set in it, by structure and never by text."""

import copy
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

PACKAGED: Final = Path(__file__).parent / "data" / "envoy" / "bootstrap.yaml"
SOURCE_TREE: Final = Path(__file__).parent.parent / "envoy" / "bootstrap.yaml"

Bootstrap = dict[str, Any]
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Node:
    """One Envoy. `admin` and `xds` are host and port; `max_heap` is bytes, which overload protection reckons from."""

    id: str
    admin: Address
    xds: Address
    cluster: str = "tollhouse"
    max_heap: int = 1 << 30
    max_connections: int | None = None


def template() -> Bootstrap:
    """The file as shipped: of the installed package, or of the source tree."""
    path = PACKAGED if PACKAGED.exists() else SOURCE_TREE
    loaded: Bootstrap = yaml.safe_load(path.read_text())
    return loaded


def render(node: Node, base: Bootstrap) -> Bootstrap:
    """A copy of `base` for that node. Raises KeyError or ValueError if `base` lacks a part that must be set."""
    made = copy.deepcopy(base)
    made["node"] |= {"id": node.id, "cluster": node.cluster}
    _set_address(made["admin"]["address"], node.admin)
    (cluster,) = made["static_resources"]["clusters"]
    _set_address(cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"], node.xds)
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
    path.write_text(yaml.safe_dump(render(node, template()), sort_keys=False))
    return path


def half_of_the_descriptors() -> int:
    """A connection from a client needs one to an upstream: each may take two of the process's file descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 50_000 if soft == resource.RLIM_INFINITY else max(64, min(50_000, soft // 2 - 64))


def _set_address(address: Bootstrap, value: Address) -> None:
    address["socket_address"] |= {"address": value[0], "port_value": value[1]}
