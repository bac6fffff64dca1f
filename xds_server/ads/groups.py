"""Groups of nodes: those that get the same listeners have the very same view of a snapshot.

A view is composed of the published resources themselves, and made once for all nodes of the group.
"""

from collections.abc import Callable
from types import MappingProxyType

from envoy.config.core.v3.base_pb2 import Node as NodeMessage

from gateway.nodes import Node, matches
from xds_server.compiler.names import QUIC, listener_of
from xds_server.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    SCOPED_ROUTES,
    SECRET,
    VIRTUAL_HOST,
    Snapshot,
    TypeSnapshot,
)


def node_of(message: NodeMessage) -> Node:
    """Labels are `metadata.labels` of the node's bootstrap, a mapping of texts; other values are not labels."""
    written = message.metadata.fields["labels"].struct_value.fields if "labels" in message.metadata.fields else {}
    labels = ((key, value.string_value) for key, value in written.items() if value.HasField("string_value"))
    return Node(message.id, message.cluster, frozenset(labels), message.locality.region, message.locality.zone)


def view_of(snapshot: Snapshot, node: Node) -> Snapshot:
    """What `snapshot` has for the node: all of it if it gets every listener; else those and what they reach."""
    listeners = frozenset(share.listener for share in snapshot.shares if matches(share.nodes, node))
    if len(listeners) == len(snapshot.shares):
        return snapshot
    if listeners not in snapshot.views:
        snapshot.views[listeners] = _made(snapshot, listeners)
    return snapshot.views[listeners]


def _made(snapshot: Snapshot, listeners: frozenset[str]) -> Snapshot:
    there = snapshot.types[LISTENER].resources.keys() & listeners  # one that is closed has no use for anything
    reach = frozenset[tuple[str, str]]().union(*(one.reach for one in snapshot.shares if one.listener in there))
    clusters = [r for name, r in snapshot.types[CLUSTER].resources.items() if (CLUSTER, name) in reach]
    endpoints = {cluster.endpoints for cluster in clusters}
    kept: dict[str, Callable[[str], bool]] = {
        CLUSTER: lambda name: (CLUSTER, name) in reach,
        SECRET: lambda name: (SECRET, name) in reach,
        ENDPOINTS: lambda name: name in endpoints,
        LISTENER: lambda name: name.removesuffix(QUIC) in listeners,
        ROUTES: lambda name: listener_of(name) in listeners,
        SCOPED_ROUTES: lambda name: listener_of(name) in listeners,
        VIRTUAL_HOST: lambda name: listener_of(name) in listeners,
    }
    types = {url: _part(one, kept[url]) if url in kept else one for url, one in snapshot.types.items()}
    return Snapshot(snapshot.revision, MappingProxyType(types))


def _part(whole: TypeSnapshot, wanted: Callable[[str], bool]) -> TypeSnapshot:
    found = {name: resource for name, resource in whole.resources.items() if wanted(name)}
    return whole if len(found) == len(whole.resources) else TypeSnapshot(whole.type_url, MappingProxyType(found))
