"""The order of the HTTP filters, in one list; each stage's file says the reason for its place."""

from collections.abc import Iterator
from typing import Final

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from google.protobuf.any_pb2 import Any

from gateway.model import Listener
from xds_server.compiler.context import Context
from xds_server.compiler.filters import (
    Stage,
    bandwidth_limit,
    buffer,
    compression,
    cors,
    csrf,
    ext_authz,
    fault,
    grpc_web,
    identity_headers,
    jwt_authn,
    known_scope,
    local_ratelimit,
    oauth2,
    quota_keys,
    rate_limit_quota,
    ratelimit,
    rbac,
    response_cache,
    router,
    session_cookies,
    session_persistence,
    strict_paths,
    transport_headers,
)
from xds_server.compiler.identity import RouteSpec

STAGES: Final[tuple[Stage, ...]] = (
    transport_headers.STAGE,
    strict_paths.STAGE,
    known_scope.STAGE,
    identity_headers.STAGE,
    cors.STAGE,
    csrf.STAGE,
    grpc_web.STAGE,
    oauth2.STAGE,
    jwt_authn.STAGE,
    session_cookies.TAKE,
    session_cookies.PUT,
    ext_authz.STAGE,
    rbac.STAGE,
    local_ratelimit.RETRY,
    local_ratelimit.STAGE,
    quota_keys.STAGE,
    rate_limit_quota.OF_TIER,
    rate_limit_quota.OF_ROUTE,
    ratelimit.STAGE,
    fault.STAGE,
    session_persistence.STAGE,
    bandwidth_limit.RESPONSE,
    compression.STAGE,
    response_cache.STAGE,
    buffer.STAGE,
    bandwidth_limit.REQUEST,
    router.STAGE,
)

NAMES: Final = frozenset(stage.name for stage in STAGES)
"""Filters of ours: no raw override may say anything to them."""


def http_filters(context: Context, listener: Listener) -> Iterator[HttpFilter]:
    for stage in STAGES:
        found = stage.filter(context, listener)
        if found is not None:
            yield found


def route_configs(context: Context, spec: RouteSpec) -> dict[str, Any]:
    """What a route says to each filter, by the filter's name."""
    configs = ((stage.name, stage.on_route(context, spec)) for stage in STAGES)
    return {name: config for name, config in configs if config is not None}


def table_configs(context: Context) -> dict[str, Any]:
    """What a whole route table says to each filter."""
    configs = ((stage.name, stage.on_table(context)) for stage in STAGES)
    return {name: config for name, config in configs if config is not None}


def extensions(context: Context) -> Iterator[TypedExtensionConfig]:
    """The filters' configurations that go by ECDS."""
    for stage in STAGES:
        if stage.extension is not None:
            yield stage.extension(context)
