"""The response cache: ext_proc shows the decision service who asks for what, and it answers with what it has kept.

After everything that may refuse a request: an answer out of the cache is authorised, limited and logged like any other.
Inside compression: what is kept is the upstream's answer, in no encoding that one caller alone accepts. What the
service must know of the route travels in the metadata of Envoy's own stream (`gateway.caching`).

Whatever fails is a miss. (No mutation rules: Envoy applies them to the headers of an answer out of the cache as well.)
"""

from typing import Final

from envoy.config.core.v3.base_pb2 import HeaderValue
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.extensions.filters.http.ext_proc.v3.ext_proc_pb2 import (
    ExternalProcessor,
    ExtProcOverrides,
    ExtProcPerRoute,
)
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from google.protobuf.any_pb2 import Any

from gateway import caching
from gateway.caching import Terms
from gateway.model import Listener
from xds_server.compiler import clusters
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, optional_filter
from xds_server.compiler.identity import RouteSpec
from xds_server.compiler.wire import duration, pack

NAME: Final = "tollhouse/response_cache"
TIMEOUT: Final = 200
"""Milliseconds for each of the service's answers; then the request goes on without it."""


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    return optional_filter(
        NAME,
        ExternalProcessor(
            # The stream lives as long as the request, so only its messages have a timeout.
            grpc_service=GrpcService(envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=clusters.for_streams(context))),
            failure_mode_allow=True,
            message_timeout=duration(TIMEOUT),
            processing_mode=mode(ProcessingMode.NONE),
            allow_mode_override=True,
            allowed_override_modes=[mode(ProcessingMode.STREAMED)],
            route_cache_action=ExternalProcessor.RETAIN,  # or the request could move to a route it was not checked for
            stat_prefix="response_cache",
        ),
    )


def mode(body: ProcessingMode.BodySendMode) -> ProcessingMode:
    return ProcessingMode(
        request_header_mode=ProcessingMode.SEND,
        response_header_mode=ProcessingMode.SEND,
        response_body_mode=body,
    )


def on_route(context: Context, spec: RouteSpec) -> Any | None:
    route = spec.resolved
    if route is None or not spec.reaches_upstream or route.traffic.cache is None:
        return None
    cache = route.traffic.cache
    terms = Terms(
        route=route.full_name,
        ttl=cache.ttl,
        max_size=cache.max_size,
        vary_by=cache.vary_by.headers if cache.vary_by is not None else (),
        guarded=spec.identity.kind != "open",
    )
    metadata = HeaderValue(key=caching.METADATA, value=terms.written())
    return pack(ExtProcPerRoute(overrides=ExtProcOverrides(grpc_initial_metadata=[metadata])))


STAGE: Final = Stage(
    NAME, "what is kept is the upstream's own answer, for those whom nothing before refused", configure, on_route
)
