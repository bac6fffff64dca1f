"""Scoped routes (SRDS): how a listener finds its table, and which table belongs to which key.

Envoy subscribes to all scopes there are, whichever listener they are for, so the listener's name is the first part of
every key. There is no scope for "all others": a request whose key nobody has is answered 404.
"""

from typing import Final

from envoy.config.route.v3.scoped_route_pb2 import ScopedRouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    Rds,
    ScopedRds,
    ScopedRoutes,
)

from gateway import scopes
from gateway.model import Listener
from gateway.scopes import Scope
from xds_server.compiler import names
from xds_server.compiler.wire import ads

FragmentBuilder = ScopedRoutes.ScopeKeyBuilder.FragmentBuilder
Extractor = FragmentBuilder.HeaderValueExtractor
Fragment = ScopedRouteConfiguration.Key.Fragment

LISTENER_NAME: Final = FragmentBuilder(header_value_extractor=Extractor(name=names.LISTENER_HEADER, index=0))
HOST: Final = FragmentBuilder(header_value_extractor=Extractor(name=":authority", index=0))
FIRST_SEGMENT: Final = FragmentBuilder(
    header_value_extractor=Extractor(name=names.PATH_HEADER, element_separator="/", index=1)
)


def find_routes(manager: HttpConnectionManager, name: str, listener: Listener) -> None:
    """Where the listener's connection manager has its routes from."""
    if listener.scoping == "none":
        manager.rds.CopyFrom(Rds(config_source=ads(), route_config_name=name))
        return
    fragments = [LISTENER_NAME]
    fragments += [HOST] if scopes.by_host(listener.scoping) else []
    fragments += [FIRST_SEGMENT] if scopes.by_path(listener.scoping) else []
    manager.scoped_routes.CopyFrom(
        ScopedRoutes(
            name=name,
            scope_key_builder=ScopedRoutes.ScopeKeyBuilder(fragments=fragments),
            rds_config_source=ads(),
            scoped_rds=ScopedRds(scoped_rds_config_source=ads()),
        )
    )


def scoped(listener: str, scope: Scope) -> ScopedRouteConfiguration:
    """The scope's key, in the order of the listener's fragments, and the name of its table."""
    table = names.scoped_table(listener, scope)
    values = (listener, *(value for value in scope if value is not None))
    return ScopedRouteConfiguration(
        name=table,
        route_configuration_name=table,
        key=ScopedRouteConfiguration.Key(fragments=[Fragment(string_key=value) for value in values]),
    )
