"""The compiled resources as one static bootstrap: what ADS would deliver, written inline.

`envoy --mode validate` checks such a file completely, while it would leave dynamic resources unseen; and an Envoy
started with it serves a gateway without any control plane, as tests want.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from envoy.config.bootstrap.v3.bootstrap_pb2 import Admin, Bootstrap, LayeredRuntime, RuntimeLayer
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import DataSource, Node, TransportSocket
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import Route, RouteList
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.config.route.v3.scoped_route_pb2 import ScopedRouteConfiguration
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.transport_sockets.quic.v3.quic_transport_pb2 import QuicDownstreamTransport
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import (
    CommonTlsContext,
    DownstreamTlsContext,
    UpstreamTlsContext,
)
from envoy.service.runtime.v3.rtds_pb2 import Runtime
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from xds_server.compiler.names import listener_of
from xds_server.compiler.oauth2_per_route import OAuth2PerRoute
from xds_server.compiler.settings import Certificate
from xds_server.compiler.tables import reading
from xds_server.compiler.wire import pack, socket_address
from xds_server.resources import PREFIX

NODE: Final = Node(id="static", cluster="tollhouse")
THROWAWAY_KEY: Final = "dGhyb3ctYXdheS10aHJvdy1hd2F5LXRocm93LWF3YXk"
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Resources:
    """Compiled messages by type and name, with only the types that others refer to."""

    routes: Mapping[str, RouteConfiguration]
    scopes: tuple[ScopedRouteConfiguration, ...]
    endpoints: Mapping[str, ClusterLoadAssignment]
    extensions: Mapping[str, TypedExtensionConfig]


def bootstrap(messages: Iterable[Message], *, admin: tuple[str, int] | None = None) -> Bootstrap:
    """A static bootstrap of everything in `messages`. Raises KeyError when one refers to what is not there."""
    found = tuple(messages)
    resources = Resources(
        routes={m.name: static_logins(m) for m in found if isinstance(m, RouteConfiguration)},
        scopes=tuple(m for m in found if isinstance(m, ScopedRouteConfiguration)),
        endpoints={m.cluster_name: m for m in found if isinstance(m, ClusterLoadAssignment)},
        extensions={m.name: m for m in found if isinstance(m, TypedExtensionConfig)},
    )
    return Bootstrap(
        node=NODE,
        admin=Admin(address=socket_address(*admin)) if admin else None,
        layered_runtime=LayeredRuntime(
            layers=[RuntimeLayer(name=m.name, static_layer=m.layer) for m in found if isinstance(m, Runtime)]
        ),
        static_resources=Bootstrap.StaticResources(
            listeners=[static_listener(m, resources) for m in side_by_side(found)],
            clusters=[static_cluster(m, resources) for m in found if isinstance(m, Cluster)],
            secrets=[m for m in found if isinstance(m, Secret)],
        ),
    )


def side_by_side(messages: Iterable[Message]) -> Iterator[Listener]:
    """All listeners on one node. Those that no two nodes share may have one port: but the first, they get any."""
    taken = set()
    for message in messages:
        if not isinstance(message, Listener):
            continue
        address = message.address.SerializeToString(deterministic=True)
        if address in taken:
            message = copied(message)
            message.address.socket_address.port_value = 0
        taken.add(address)
        yield message


def with_lists(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The same resources with all routes where Envoy checks them."""
    return tuple(reading.with_lists(m) if isinstance(m, RouteConfiguration) else m for m in messages)


def without_secrets(messages: Iterable[Message], stand_in: Certificate) -> tuple[Message, ...]:
    """The same resources with `stand_in` for every certificate and another key for every HS256 key."""
    return tuple(disguised(message, stand_in) for message in messages)


def disguised(message: Message, stand_in: Certificate) -> Message:
    if isinstance(message, Secret):
        return disguised_secret(message, stand_in)
    if isinstance(message, TypedExtensionConfig) and holds(message.typed_config, JwtAuthentication):
        config = unpacked(message.typed_config, JwtAuthentication)
        for provider in config.providers.values():
            provider.local_jwks.inline_string = public_keys(provider.local_jwks.inline_string)
        return TypedExtensionConfig(name=message.name, typed_config=pack(config))
    return message


def disguised_secret(secret: Secret, stand_in: Certificate) -> Secret:
    """Certificates of authorities are no secrets and stay."""
    result = copied(secret)
    if result.HasField("tls_certificate"):
        result.tls_certificate.certificate_chain.CopyFrom(DataSource(inline_bytes=stand_in.chain))
        result.tls_certificate.private_key.CopyFrom(DataSource(inline_bytes=stand_in.key))
        result.tls_certificate.ClearField("watched_directory")  # it is on the node
    if result.HasField("generic_secret"):
        result.generic_secret.secret.inline_bytes = THROWAWAY_KEY.encode()
    return result


def public_keys(jwks: str) -> str:
    keys = json.loads(jwks)["keys"]
    if not any("k" in key for key in keys):
        return jwks
    return json.dumps({"keys": [{**key, "k": THROWAWAY_KEY} if "k" in key else key for key in keys]})


def static_listener(listener: Listener, resources: Resources) -> Listener:
    result = copied(listener)
    for chain in result.filter_chains:
        for filter_ in chain.filters:
            manager = unpacked(filter_.typed_config, HttpConnectionManager)
            filter_.typed_config.CopyFrom(pack(static_manager(manager, resources)))
        static_socket(chain.transport_socket)
    return result


def static_manager(manager: HttpConnectionManager, resources: Resources) -> HttpConnectionManager:
    static_routes(manager, resources)
    for filter_ in manager.http_filters:
        if filter_.HasField("config_discovery"):
            filter_.typed_config.CopyFrom(resources.extensions[filter_.name].typed_config)
    return manager


def static_routes(manager: HttpConnectionManager, resources: Resources) -> None:
    """Scopes with their tables inside; Envoy wants one scope at least, so without any there is an empty table."""
    if manager.HasField("rds"):
        manager.route_config.CopyFrom(resources.routes[manager.rds.route_config_name])
        return
    name = manager.scoped_routes.name
    scopes = [static_scope(scope, resources) for scope in resources.scopes if listener_of(scope.name) == name]
    if scopes:
        manager.scoped_routes.scoped_route_configurations_list.scoped_route_configurations.extend(scopes)
    else:
        manager.route_config.CopyFrom(RouteConfiguration(name=name))


def static_scope(scope: ScopedRouteConfiguration, resources: Resources) -> ScopedRouteConfiguration:
    return ScopedRouteConfiguration(
        name=scope.name, key=scope.key, route_configuration=resources.routes[scope.route_configuration_name]
    )


def static_cluster(cluster: Cluster, resources: Resources) -> Cluster:
    result = copied(cluster)
    if result.type == Cluster.EDS:
        result.type = Cluster.STATIC
        result.ClearField("eds_cluster_config")
        result.load_assignment.CopyFrom(resources.endpoints[cluster.name])
    static_socket(result.transport_socket)
    return result


def static_socket(socket: TransportSocket) -> None:
    """A secret without a source is looked up among the static ones."""
    if holds(socket.typed_config, DownstreamTlsContext):
        downstream = unpacked(socket.typed_config, DownstreamTlsContext)
        static_tls(downstream.common_tls_context)
        socket.typed_config.CopyFrom(pack(downstream))
    elif holds(socket.typed_config, QuicDownstreamTransport):
        quic = unpacked(socket.typed_config, QuicDownstreamTransport)
        static_tls(quic.downstream_tls_context.common_tls_context)
        socket.typed_config.CopyFrom(pack(quic))
    elif holds(socket.typed_config, UpstreamTlsContext):
        upstream = unpacked(socket.typed_config, UpstreamTlsContext)
        static_tls(upstream.common_tls_context)
        socket.typed_config.CopyFrom(pack(upstream))


def static_tls(common: CommonTlsContext) -> None:
    for config in common.tls_certificate_sds_secret_configs:
        config.ClearField("sds_config")
    if common.HasField("validation_context_sds_secret_config"):
        common.validation_context_sds_secret_config.ClearField("sds_config")
    if common.HasField("combined_validation_context"):
        common.combined_validation_context.validation_context_sds_secret_config.ClearField("sds_config")


def static_logins(table: RouteConfiguration) -> RouteConfiguration:
    """The table with the secrets of its routes' logins looked up among the static ones."""
    result = copied(table)
    for host in result.virtual_hosts:
        for route in host.routes:
            static_login(route)
        for leaf in reading.leaves_of(host.matcher) if host.HasField("matcher") else ():
            routes = RouteList.FromString(leaf.value)
            for route in routes.routes:
                static_login(route)
            leaf.value = routes.SerializeToString(deterministic=True)
    return result


def static_login(route: Route) -> None:
    for config in route.typed_per_filter_config.values():
        if holds(config, OAuth2PerRoute):
            login = unpacked(config, OAuth2PerRoute)
            login.config.credentials.token_secret.ClearField("sds_config")
            login.config.credentials.hmac_secret.ClearField("sds_config")
            config.CopyFrom(pack(login))


def holds(value: Any, kind: type[Message]) -> bool:
    return value.type_url == PREFIX + kind.DESCRIPTOR.full_name


def unpacked(value: Any, kind: type[M]) -> M:
    result = kind()
    result.ParseFromString(value.value)
    return result


def copied(message: M) -> M:
    result = type(message)()
    result.CopyFrom(message)
    return result
