"""gRPC-Web: calls of browsers become gRPC for the upstream, and its answers and trailers what browsers can read.

Before authentication, so that a refusal too is translated and the page sees a gRPC status instead of nothing.
"""

from typing import Final

from envoy.extensions.filters.http.grpc_web.v3.grpc_web_pb2 import GrpcWeb
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from google.protobuf.any_pb2 import Any

from gateway.model import Listener
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, optional_filter, turned_on
from xds_server.compiler.identity import RouteSpec

NAME: Final = "envoy.filters.http.grpc_web"


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    return optional_filter(NAME, GrpcWeb())


def on_route(context: Context, spec: RouteSpec) -> Any | None:
    if spec.resolved is None or not spec.resolved.traffic.grpc_web:
        return None
    return context.packed((NAME,), turned_on)


STAGE: Final = Stage(NAME, "a refusal must reach the page as a gRPC status", configure, on_route)
