"""Fault injection: delays and failures on purpose, for requests that would have been let through.

After authentication, authorization and limits: strangers are refused as ever, and what they see tells nothing.
"""

from typing import Final

from envoy.extensions.filters.common.fault.v3.fault_pb2 import FaultDelay
from envoy.extensions.filters.http.fault.v3.fault_pb2 import FaultAbort, HTTPFault
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.type.v3.percent_pb2 import FractionalPercent
from google.protobuf.any_pb2 import Any

from gateway import model
from gateway.model import FaultInjection, Listener
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, optional_filter
from xds_server.compiler.identity import RouteSpec
from xds_server.compiler.wire import duration

NAME: Final = "envoy.filters.http.fault"


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    return optional_filter(NAME, HTTPFault())


def on_route(context: Context, spec: RouteSpec) -> Any | None:
    fault = spec.resolved.traffic.fault_injection if spec.resolved is not None else None
    return None if fault is None else context.packed((NAME, id(fault)), lambda: policy(fault))


def policy(fault: FaultInjection) -> HTTPFault:
    return HTTPFault(
        delay=delay(fault.delay) if fault.delay else None, abort=abort(fault.abort) if fault.abort else None
    )


def delay(spec: model.FaultDelay) -> FaultDelay:
    return FaultDelay(fixed_delay=duration(spec.fixed_delay), percentage=fraction(spec.percentage))


def abort(spec: model.FaultAbort) -> FaultAbort:
    return FaultAbort(http_status=spec.status, grpc_status=spec.grpc_status, percentage=fraction(spec.percentage))


def fraction(percent: float) -> FractionalPercent:
    return FractionalPercent(numerator=round(percent * 10_000), denominator=FractionalPercent.MILLION)


STAGE: Final = Stage(NAME, "only who would have been let through meets a failure on purpose", configure, on_route)
