"""Which endpoints are fit for requests: asked for actively, and told from how they answer."""

from typing import Any, Final

from envoy.config.cluster.v3.outlier_detection_pb2 import OutlierDetection
from envoy.config.core.v3.health_check_pb2 import HealthCheck
from envoy.type.v3.http_pb2 import HTTP1, HTTP2
from envoy.type.v3.range_pb2 import Int64Range

from gateway import model
from gateway.model import DnsUpstream, Upstream
from xds_server.compiler.errors import CompileError
from xds_server.compiler.wire import duration, uint32

MAX_EJECTION: Final = 300_000


def health_checks(spec: Upstream, protocols: tuple[str, ...]) -> list[HealthCheck]:
    check = spec.health_check
    if check is None:
        return []
    return [
        HealthCheck(
            timeout=duration(max(1, check.timeout)),
            interval=duration(max(1, check.interval)),
            # Envoy's minute without traffic would leave a service that came up late out for as long: requests that
            # find no healthy endpoint are no traffic to it.
            no_traffic_interval=duration(max(1, check.interval)),
            healthy_threshold=uint32(check.healthy_threshold),
            unhealthy_threshold=uint32(check.unhealthy_threshold),
            **asked(check, spec.host if isinstance(spec, DnsUpstream) else "", protocols),
        )
    ]


def own_service(name: str) -> HealthCheck:
    """A service of ours, asked every second by its own name."""
    second = duration(1_000)
    return HealthCheck(
        timeout=second,
        interval=second,
        no_traffic_interval=second,
        healthy_threshold=uint32(1),
        unhealthy_threshold=uint32(2),
        grpc_health_check=HealthCheck.GrpcHealthCheck(service_name=name),
    )


def one_of_several() -> HealthCheck:
    """A process of ours that others can stand in for: it says that it goes before it does (`policy.server.NOTICED`)."""
    check = own_service("")
    check.interval.CopyFrom(duration(500))
    check.no_traffic_interval.CopyFrom(duration(500))
    check.unhealthy_threshold.value = 1
    return check


def asked(check: model.HealthCheck, host: str, protocols: tuple[str, ...]) -> dict[str, Any]:
    """What is asked, as the field of a HealthCheck; `host` is what the upstream is called."""
    if check.http is not None:
        return {"http_health_check": http(check.http, host, protocols)}
    if check.tcp is not None:
        return {"tcp_health_check": tcp(check.tcp)}
    if check.grpc is not None:
        if set(protocols) != {"h2"}:
            raise CompileError("a gRPC health check needs HTTP/2", "health_check", "grpc")
        return {"grpc_health_check": HealthCheck.GrpcHealthCheck(service_name=check.grpc.service or "", authority=host)}
    raise CompileError("a health check asks by http, tcp or grpc", "health_check")


def http(check: model.HttpCheck, host: str, protocols: tuple[str, ...]) -> HealthCheck.HttpHealthCheck:
    return HealthCheck.HttpHealthCheck(
        host=check.host or host,
        path=check.path,
        expected_statuses=[status_range(text) for text in check.expected_statuses],
        codec_client_type=HTTP2 if "h2" in protocols else HTTP1,
    )


def tcp(check: model.TcpCheck) -> HealthCheck.TcpHealthCheck:
    """Envoy takes the bytes as hexadecimal text."""
    received = [HealthCheck.Payload(text=check.receive.encode().hex())] if check.receive else []
    sent = HealthCheck.Payload(text=check.send.encode().hex()) if check.send else None
    return HealthCheck.TcpHealthCheck(send=sent, receive=received)


def status_range(text: str) -> Int64Range:
    """`200-204`, both included, as Envoy's half-open range."""
    first, _, last = text.partition("-")
    return Int64Range(start=int(first), end=int(last or first) + 1)


def outlier_detection(spec: model.OutlierDetection | str) -> OutlierDetection | None:
    """Consecutive failures only: success rates compare hosts, and would eject the worst of healthy ones."""
    if not isinstance(spec, model.OutlierDetection):
        return None
    found = OutlierDetection(
        consecutive_5xx=uint32(spec.consecutive_5xx),
        interval=duration(max(1, spec.interval)),
        base_ejection_time=duration(max(1, spec.base_ejection_time)),
        max_ejection_time=duration(max(MAX_EJECTION, spec.base_ejection_time)),
        max_ejection_percent=uint32(round(spec.max_ejection_percent)),
        enforcing_consecutive_5xx=uint32(100),
        enforcing_success_rate=uint32(0),
    )
    if spec.consecutive_gateway_failure is not None:
        found.consecutive_gateway_failure.value = spec.consecutive_gateway_failure
        found.enforcing_consecutive_gateway_failure.value = 100  # by default they are only counted
    if spec.consecutive_local_origin_failure is not None:
        found.split_external_local_origin_errors = True
        found.consecutive_local_origin_failure.value = spec.consecutive_local_origin_failure
        found.enforcing_consecutive_local_origin_failure.value = 100
        found.enforcing_local_origin_success_rate.value = 0
    return found
