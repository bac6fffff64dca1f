"""Parts of a compiled gateway that can be left out, to find the one that Envoy refuses.

Envoy stops at its first error and seldom says where it was.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.config.route.v3.scoped_route_pb2 import ScopedRouteConfiguration
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication
from google.protobuf.message import Message

from gateway.problems import Path
from xds_server.compiler.inline import copied, holds, unpacked
from xds_server.compiler.names import NOWHERE, listener_of, route_path
from xds_server.compiler.tables.reading import keep_routes, routes_of
from xds_server.compiler.wire import pack

Messages = tuple[Message, ...]
OF_LISTENERS: Final = (Listener, ScopedRouteConfiguration, RouteConfiguration)


@dataclass(frozen=True, slots=True)
class Suspects:
    """One kind of parts: their names, the resources with only some of them, and where a part stands in the document."""

    names: Callable[[Messages], Sequence[str]]
    only: Callable[[Messages, Container[str]], Messages]
    path: Callable[[str], Path | None]


def route_names(messages: Messages) -> Sequence[str]:
    tables = (m for m in messages if isinstance(m, RouteConfiguration))
    found = (route.name for table in tables for host in table.virtual_hosts for route in routes_of(host))
    return [name for name in dict.fromkeys(found) if route_path(name) is not None]


def only_routes(messages: Messages, kept: Container[str]) -> Messages:
    return tuple(table_of(m, kept) if isinstance(m, RouteConfiguration) else m for m in messages)


def table_of(table: RouteConfiguration, kept: Container[str]) -> RouteConfiguration:
    result = copied(table)
    for host in result.virtual_hosts:
        keep_routes(host, lambda route: route_path(route.name) is None or route.name in kept)
    return result


def cluster_names(messages: Messages) -> Sequence[str]:
    return [m.name for m in messages if isinstance(m, Cluster) and "/" not in m.name]


def only_clusters(messages: Messages, kept: Container[str]) -> Messages:
    """Without routes: they refer to clusters."""
    return tuple(m for m in only_routes(messages, ()) if not is_upstream(m) or cluster_of(m) in kept)


def is_upstream(message: Message) -> bool:
    return isinstance(message, (Cluster, ClusterLoadAssignment)) and "/" not in cluster_of(message)


def cluster_of(message: Message) -> str:
    if isinstance(message, Cluster):
        return message.name
    return message.cluster_name if isinstance(message, ClusterLoadAssignment) else NOWHERE


def provider_names(messages: Messages) -> Sequence[str]:
    return [name for m in messages if (config := jwt_authn_of(m)) is not None for name in sorted(config.providers)]


def only_providers(messages: Messages, kept: Container[str]) -> Messages:
    """Without requirements: they refer to providers."""
    return tuple(providers_of(m, kept) for m in only_clusters(messages, ()))


def providers_of(message: Message, kept: Container[str]) -> Message:
    config = jwt_authn_of(message)
    if config is None or not isinstance(message, TypedExtensionConfig):
        return message
    left = {name: provider for name, provider in config.providers.items() if name in kept}
    return TypedExtensionConfig(name=message.name, typed_config=pack(JwtAuthentication(providers=left)))


def jwt_authn_of(message: Message) -> JwtAuthentication | None:
    if isinstance(message, TypedExtensionConfig) and holds(message.typed_config, JwtAuthentication):
        return unpacked(message.typed_config, JwtAuthentication)
    return None


def listener_names(messages: Messages) -> Sequence[str]:
    return list(dict.fromkeys(listener_of(m.name) for m in messages if isinstance(m, Listener)))


def only_listeners(messages: Messages, kept: Container[str]) -> Messages:
    found = only_providers(messages, ())
    return tuple(m for m in found if not isinstance(m, OF_LISTENERS) or listener_of(m.name) in kept)


SUSPECTS: Final = (
    Suspects(route_names, only_routes, route_path),
    Suspects(cluster_names, only_clusters, lambda name: ("upstreams", name)),
    Suspects(provider_names, only_providers, lambda name: ("jwt_providers", name)),
    Suspects(listener_names, only_listeners, lambda name: ("listeners", name)),
)
"""In the order in which they depend on each other: a later kind is tried without the parts of earlier ones."""
