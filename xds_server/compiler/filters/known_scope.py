"""Fault injection as the answer to a request whose scope has no table: 404, before anyone asks who is calling.

Without a table there is no route that says what applies, so what stands in the chain would apply as it stands there:
a token would be asked for, and then the caller refused. Every table turns this filter off.
"""

from typing import Final

from envoy.config.route.v3.route_components_pb2 import FilterConfig
from envoy.extensions.filters.http.fault.v3.fault_pb2 import FaultAbort, HTTPFault
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.type.v3.percent_pb2 import FractionalPercent
from google.protobuf.any_pb2 import Any

from gateway.model import Listener
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, http_filter, no_route_config

NAME: Final = "tollhouse/known_scope"


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    if listener.scoping == "none":
        return None
    always = FractionalPercent(numerator=100)
    return http_filter(NAME, HTTPFault(abort=FaultAbort(http_status=404, percentage=always)))


def on_table(context: Context) -> Any | None:
    if all(listener.scoping == "none" for listener in context.gateway.listeners.values()):
        return None
    return context.packed((NAME,), lambda: FilterConfig(disabled=True))


STAGE: Final = Stage(
    NAME,
    "what no table is there for is answered before anything asks for credentials",
    configure,
    no_route_config,
    on_table,
)
