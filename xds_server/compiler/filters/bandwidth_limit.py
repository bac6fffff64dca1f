"""Bandwidth limits: what all requests of a route together may send, and their answers take, on one Envoy.

Envoy's filter has one figure for both directions, so it stands in the chain twice. It makes a bucket for each entry of
its route table: a route with two hosts has two.
"""

from functools import partial
from typing import Final, Literal

from envoy.extensions.filters.http.bandwidth_limit.v3.bandwidth_limit_pb2 import BandwidthLimit
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from google.protobuf.any_pb2 import Any
from google.protobuf.wrappers_pb2 import UInt64Value

from gateway.model import Listener
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError
from xds_server.compiler.filters import Stage, optional_filter
from xds_server.compiler.identity import RouteSpec

Direction = Literal["request", "response"]
MODES: Final = {"request": BandwidthLimit.REQUEST, "response": BandwidthLimit.RESPONSE}
SMALLEST: Final = 1024  # Envoy counts in KiB


def name_of(direction: Direction) -> str:
    return f"tollhouse/bandwidth_{direction}"


def configure(direction: Direction, context: Context, listener: Listener) -> HttpFilter | None:
    return optional_filter(
        name_of(direction), BandwidthLimit(stat_prefix=f"{direction}_bandwidth", enable_mode=BandwidthLimit.DISABLED)
    )


def on_route(direction: Direction, context: Context, spec: RouteSpec) -> Any | None:
    limit = spec.resolved.traffic.bandwidth_limit if spec.resolved is not None else None
    rate = getattr(limit, direction) if limit is not None else None
    return None if rate is None else context.packed((direction, "bandwidth", rate), lambda: policy(direction, rate))


def policy(direction: Direction, rate: int) -> BandwidthLimit:
    """`rate` in bytes per second. What Envoy cannot count is rounded down: never more than was written."""
    if rate < SMALLEST:
        raise CompileError(f"a bandwidth limit below {SMALLEST} bytes per second", "bandwidth_limit", direction)
    return BandwidthLimit(
        stat_prefix=f"{direction}_bandwidth",
        enable_mode=MODES[direction],
        limit_kbps=UInt64Value(value=rate // SMALLEST),
    )


def stage(direction: Direction) -> Stage:
    return Stage(
        name_of(direction),
        "only what is really sent on counts",
        partial(configure, direction),
        partial(on_route, direction),
    )


REQUEST: Final = stage("request")
RESPONSE: Final = stage("response")
