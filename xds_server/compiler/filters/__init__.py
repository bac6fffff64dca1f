"""One file per HTTP filter of Envoy, each a Stage: what goes into the chain once, and what each route says to it.

To add a filter: write one file with a STAGE, put it into `chain.STAGES` with its reason, add a golden case.
"""

from collections.abc import Callable
from dataclasses import dataclass

from envoy.config.core.v3.config_source_pb2 import ExtensionConfigSource
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.route.v3.route_components_pb2 import FilterConfig
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from gateway.model import Listener
from xds_server.compiler.context import Context
from xds_server.compiler.identity import RouteSpec
from xds_server.compiler.wire import ads, pack
from xds_server.resources import PREFIX

FilterHook = Callable[[Context, Listener], HttpFilter | None]
RouteHook = Callable[[Context, RouteSpec], Any | None]
TableHook = Callable[[Context], Any | None]
ExtensionHook = Callable[[Context], TypedExtensionConfig]


def no_route_config(context: Context, spec: RouteSpec) -> Any | None:
    return None


def no_table_config(context: Context) -> Any | None:
    return None


@dataclass(frozen=True, slots=True)
class Stage:
    """`name` is the filter's name in the chain and the key of its per-route configuration.

    `filter`: once a listener; it may read only the listener and what no module, route, provider or tier can change.
    `on_route`: once a route. `on_table`: once a route table. `extension`: what goes by ECDS instead of in the listener.
    """

    name: str
    reason: str
    filter: FilterHook
    on_route: RouteHook = no_route_config
    on_table: TableHook = no_table_config
    extension: ExtensionHook | None = None


def http_filter(name: str, config: Message) -> HttpFilter:
    return HttpFilter(name=name, typed_config=pack(config))


def optional_filter(name: str, config: Message) -> HttpFilter:
    """A filter that only runs on routes that say something to it, and costs the others nothing."""
    return HttpFilter(name=name, typed_config=pack(config), disabled=True)


def discovered_filter(name: str, kind: type[Message], *, optional: bool = False) -> HttpFilter:
    """A filter whose configuration goes by ECDS, so that it changes without touching the listener."""
    source = ExtensionConfigSource(config_source=ads(), type_urls=[PREFIX + kind.DESCRIPTOR.full_name])
    return HttpFilter(name=name, config_discovery=source, disabled=optional)


def turned_on() -> FilterConfig:
    """What a route says to an optional filter that has no words of its own for a route."""
    return FilterConfig(config=Any())
