"""The router: the end of every chain."""

from typing import Final

from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter

from gateway.model import Listener
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, http_filter

NAME: Final = "envoy.filters.http.router"


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    return http_filter(NAME, Router(suppress_envoy_headers=True))


STAGE: Final = Stage(NAME, "sends on what is left", configure)
