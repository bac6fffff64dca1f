"""Upstreams as Clusters, and the cluster of the decision services."""

from collections.abc import Iterator, Sequence
from typing import Final

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.cluster.v3.outlier_detection_pb2 import OutlierDetection
from envoy.config.core.v3.health_check_pb2 import HealthCheck
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.type.v3.http_pb2 import HTTP1, HTTP2
from envoy.type.v3.percent_pb2 import Percent
from envoy.type.v3.range_pb2 import Int64Range

from gateway import model
from gateway.model import DnsUpstream, StaticUpstream
from xds_server.compiler import hardening, names, tls
from xds_server.compiler.context import Context
from xds_server.compiler.endpoints import assignment, is_address
from xds_server.compiler.wire import ads, duration, pack, uint32

HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
MAX_EJECTION: Final = 300_000
NO_PANIC: Final = Cluster.CommonLbConfig(healthy_panic_threshold=Percent(value=0))
POLICIES: Final = {
    "round_robin": Cluster.ROUND_ROBIN,
    "least_request": Cluster.LEAST_REQUEST,
    "random": Cluster.RANDOM,
}
FAMILIES: Final = {
    "auto": Cluster.AUTO,
    "v4_only": Cluster.V4_ONLY,
    "v6_only": Cluster.V6_ONLY,
    "v4_preferred": Cluster.V4_PREFERRED,
    "all": Cluster.ALL,
}

Messages = Iterator[Cluster | ClusterLoadAssignment]


def upstream(context: Context, name: str) -> Messages:
    """The Cluster of an upstream, and its endpoints where they go by EDS. Raises CompileError."""
    spec = context.gateway.upstreams[name]
    cluster = Cluster(
        name=name,
        connect_timeout=duration(max(1, spec.connect_timeout)),
        lb_policy=POLICIES[spec.load_balancing.policy],
        common_lb_config=NO_PANIC,  # with every endpoint out, answer 503 at once instead of trying them all
        health_checks=health_checks(spec),
        circuit_breakers=circuit_breakers(spec.circuit_breaker),
        outlier_detection=outlier_detection(spec.outlier_detection),
        typed_extension_protocol_options={HTTP_OPTIONS: pack(hardening.upstream_http(protocols(spec)))},
        transport_socket=tls.upstream(context, name, spec.tls, protocols(spec)) if spec.tls else None,
        **hardening.cluster_fields(),
    )
    if isinstance(spec, DnsUpstream):
        yield by_dns(cluster, [model.Endpoint(address=spec.host, port=spec.port)], spec.dns)
    else:
        yield from placed(cluster, spec.endpoints)


def decisions(context: Context) -> Messages:
    """The decision services. It always exists, even with nobody in it: filters refer to it, and then answer 503."""
    cluster = Cluster(
        name=names.DECISIONS,
        connect_timeout=duration(1_000),
        lb_policy=Cluster.LEAST_REQUEST,
        common_lb_config=NO_PANIC,
        circuit_breakers=hardening.circuit_breakers(4096, 4096, 4096, 3),
        typed_extension_protocol_options={HTTP_OPTIONS: pack(hardening.upstream_http(["h2"]))},
        **hardening.cluster_fields(),
    )
    addresses = [model.Endpoint(address=host, port=port) for host, port in context.settings.decisions]
    yield from placed(cluster, addresses)


def nowhere() -> Cluster:
    return Cluster(
        name=names.NOWHERE,
        type=Cluster.STATIC,
        connect_timeout=duration(1_000),
        common_lb_config=NO_PANIC,
        circuit_breakers=hardening.circuit_breakers(1, 1, 1, 1),
        typed_extension_protocol_options={HTTP_OPTIONS: pack(hardening.upstream_http(["http/1.1"]))},
        load_assignment=assignment(names.NOWHERE, ()),
        **hardening.cluster_fields(),
    )


def placed(cluster: Cluster, endpoints: Sequence[model.Endpoint]) -> Messages:
    """By EDS, or by DNS where an endpoint is written as a name."""
    if all(is_address(endpoint.address) for endpoint in endpoints):
        cluster.type = Cluster.EDS
        cluster.eds_cluster_config.CopyFrom(Cluster.EdsClusterConfig(eds_config=ads()))
        yield cluster
        yield assignment(cluster.name, endpoints)
    else:
        yield by_dns(cluster, endpoints, model.Dns())


def by_dns(cluster: Cluster, endpoints: Sequence[model.Endpoint], dns: model.Dns) -> Cluster:
    cluster.type = Cluster.STRICT_DNS
    cluster.dns_lookup_family = FAMILIES[dns.family]
    cluster.dns_refresh_rate.CopyFrom(duration(max(1_000, dns.refresh)))
    cluster.load_assignment.CopyFrom(assignment(cluster.name, endpoints))
    return cluster


def protocols(spec: StaticUpstream | DnsUpstream) -> tuple[str, ...]:
    """What is spoken to the upstream: what TLS negotiates, if that is said, else the protocol of the document."""
    if spec.tls is not None and spec.tls.alpn:
        return tuple(dict.fromkeys(spec.tls.alpn))
    return ("http/1.1",) if spec.protocol == "http" else ("h2",)


def circuit_breakers(spec: model.CircuitBreaker) -> CircuitBreakers:
    return hardening.circuit_breakers(
        spec.max_connections, spec.max_pending_requests, spec.max_requests, spec.max_retries
    )


def outlier_detection(spec: model.OutlierDetection | str) -> OutlierDetection | None:
    """Consecutive failures only: success rates compare hosts, and would eject the worst of healthy ones."""
    if not isinstance(spec, model.OutlierDetection):
        return None
    return OutlierDetection(
        consecutive_5xx=uint32(spec.consecutive_5xx),
        interval=duration(max(1, spec.interval)),
        base_ejection_time=duration(max(1, spec.base_ejection_time)),
        max_ejection_time=duration(max(MAX_EJECTION, spec.base_ejection_time)),
        max_ejection_percent=uint32(round(spec.max_ejection_percent)),
        enforcing_consecutive_5xx=uint32(100),
        enforcing_success_rate=uint32(0),
    )


def health_checks(spec: StaticUpstream | DnsUpstream) -> list[HealthCheck]:
    check = spec.health_check
    if check is None:
        return []
    host = check.http.host or (spec.host if isinstance(spec, DnsUpstream) else "")
    return [
        HealthCheck(
            timeout=duration(max(1, check.timeout)),
            interval=duration(max(1, check.interval)),
            # Envoy's minute without traffic would leave a service that came up late out for as long: requests that
            # find no healthy endpoint are no traffic to it.
            no_traffic_interval=duration(max(1, check.interval)),
            healthy_threshold=uint32(check.healthy_threshold),
            unhealthy_threshold=uint32(check.unhealthy_threshold),
            http_health_check=HealthCheck.HttpHealthCheck(
                host=host,
                path=check.http.path,
                expected_statuses=[status_range(text) for text in check.http.expected_statuses],
                codec_client_type=HTTP2 if "h2" in protocols(spec) else HTTP1,
            ),
        )
    ]


def status_range(text: str) -> Int64Range:
    """`200-204`, both included, as Envoy's half-open range."""
    first, _, last = text.partition("-")
    return Int64Range(start=int(first), end=int(last or first) + 1)
