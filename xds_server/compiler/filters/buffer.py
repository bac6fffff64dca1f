"""Request buffering: the upstream gets a request when all of its body is here, and none whose body is too long (413).

After everything that may refuse a request without its body: only what will be sent on takes memory.
"""

from typing import Final

from envoy.extensions.filters.http.buffer.v3.buffer_pb2 import Buffer, BufferPerRoute
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from google.protobuf.any_pb2 import Any

from gateway.model import Listener
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, optional_filter
from xds_server.compiler.identity import RouteSpec
from xds_server.compiler.wire import uint32

NAME: Final = "envoy.filters.http.buffer"


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    return optional_filter(NAME, Buffer(max_request_bytes=uint32(1)))  # the field is required; no route runs with this


def on_route(context: Context, spec: RouteSpec) -> Any | None:
    buffer = spec.resolved.traffic.request_buffer if spec.resolved is not None else None
    return None if buffer is None else context.packed((NAME, buffer.limit), lambda: of_route(buffer.limit))


def of_route(limit: int) -> BufferPerRoute:
    return BufferPerRoute(buffer=Buffer(max_request_bytes=uint32(limit)))


STAGE: Final = Stage(NAME, "only what will be sent on takes memory", configure, on_route)
