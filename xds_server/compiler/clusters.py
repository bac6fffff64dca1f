"""Upstreams as Clusters, and the cluster of the decision services."""

from collections.abc import Iterator, Sequence
from typing import Final

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.clusters.common.dns.v3 import dns_pb2
from envoy.extensions.clusters.dns.v3.dns_cluster_pb2 import DnsCluster
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from envoy.type.v3.percent_pb2 import Percent

from gateway import model, quotas
from gateway.model import DnsUpstream, EdsUpstream, Upstream
from xds_server.compiler import balancing, hardening, health, names, tls_upstream
from xds_server.compiler.context import Context
from xds_server.compiler.endpoints import assignment, is_address
from xds_server.compiler.wire import ads, duration, pack

DNS: Final = "envoy.clusters.dns"
HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
NO_PANIC: Final = Cluster.CommonLbConfig(healthy_panic_threshold=Percent(value=0))
FAMILIES: Final = {
    "auto": dns_pb2.AUTO,
    "v4_only": dns_pb2.V4_ONLY,
    "v6_only": dns_pb2.V6_ONLY,
    "v4_preferred": dns_pb2.V4_PREFERRED,
    "all": dns_pb2.ALL,
}

Messages = Iterator[Cluster | ClusterLoadAssignment]


def upstream(context: Context, name: str) -> Messages:
    """The Cluster of an upstream, and its endpoints where they go by EDS. Raises CompileError."""
    spec = context.gateway.upstreams[name]
    spoken = protocols(spec)
    cluster = Cluster(
        name=name,
        connect_timeout=duration(max(1, spec.connect_timeout)),
        health_checks=health.health_checks(spec, spoken),
        circuit_breakers=circuit_breakers(spec.circuit_breaker),
        outlier_detection=health.outlier_detection(spec.outlier_detection),
        typed_extension_protocol_options={HTTP_OPTIONS: pack(http_options(spec.connection, spoken))},
        transport_socket=tls_upstream.upstream(context, spec.tls, spoken) if spec.tls else None,
        **balancing.fields(spec.load_balancing),
        **hardening.cluster_fields(),
    )
    if isinstance(spec, DnsUpstream):
        yield by_dns(cluster, [model.Endpoint(address=spec.host, port=spec.port)], spec.dns)
    elif isinstance(spec, EdsUpstream):
        cluster.ignore_health_on_host_removal = True  # who is deregistered is gone, however healthy
        yield from by_eds(cluster, ())
    else:
        yield from placed(cluster, spec.endpoints)


def decisions(context: Context) -> Messages:
    """The decision services. It always exists, even with nobody in it: filters refer to it, and then answer 503."""
    yield from _own(names.DECISIONS, context.settings.decisions)
    if context.settings.streams:
        yield from _own(names.STREAMS, context.settings.streams)


def for_streams(context: Context) -> str:
    """The cluster that answers what is a stream."""
    return names.STREAMS if context.settings.streams else names.DECISIONS


def _own(name: str, places: Sequence[tuple[str, int]]) -> Messages:
    cluster = Cluster(
        name=name,
        connect_timeout=duration(1_000),
        lb_policy=Cluster.LEAST_REQUEST,
        common_lb_config=NO_PANIC,
        # As many retries as requests: while one of two processes is gone, half of all questions go to the other.
        circuit_breakers=hardening.circuit_breakers(4096, 4096, 4096, 4096),
        typed_extension_protocol_options={HTTP_OPTIONS: pack(hardening.upstream_http(["h2"]))},
        **hardening.cluster_fields(),
    )
    addresses = [model.Endpoint(address=host, port=port) for host, port in places]
    if len(addresses) > 1:
        cluster.health_checks.append(health.one_of_several())
    yield from placed(cluster, addresses)


def quota_shares(context: Context) -> Messages:
    """The same services once more, where there are quotas: the one that shares them out says so in its health."""
    if not quotas.any_in(context.gateway):
        return
    for message in _own(names.QUOTAS, context.settings.streams or context.settings.decisions):
        if isinstance(message, Cluster):
            del message.health_checks[:]  # Envoy takes one
            message.health_checks.append(health.own_service(quotas.SERVICE))
        yield message


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
        yield from by_eds(cluster, endpoints)
    else:
        yield by_dns(cluster, endpoints, model.Dns())


def by_eds(cluster: Cluster, endpoints: Sequence[model.Endpoint]) -> Messages:
    cluster.type = Cluster.EDS
    cluster.eds_cluster_config.CopyFrom(Cluster.EdsClusterConfig(eds_config=ads()))
    yield cluster
    yield assignment(cluster.name, endpoints)


def by_dns(cluster: Cluster, endpoints: Sequence[model.Endpoint], dns: model.Dns) -> Cluster:
    """Every address of a name is an endpoint (Envoy's fields of the Cluster itself for this are deprecated)."""
    found = DnsCluster(dns_refresh_rate=duration(max(1_000, dns.refresh)), dns_lookup_family=FAMILIES[dns.family])
    cluster.cluster_type.CopyFrom(Cluster.CustomClusterType(name=DNS, typed_config=pack(found)))
    cluster.load_assignment.CopyFrom(assignment(cluster.name, endpoints))
    return cluster


def protocols(spec: Upstream) -> tuple[str, ...]:
    """What is spoken to the upstream: what TLS negotiates, if that is said, else the protocol of the document."""
    if spec.tls is not None and spec.tls.alpn:
        return tuple(dict.fromkeys(spec.tls.alpn))
    return ("http/1.1",) if spec.protocol == "http" else ("h2",)


def circuit_breakers(spec: model.CircuitBreaker) -> CircuitBreakers:
    found = hardening.circuit_breakers(
        spec.max_connections, spec.max_pending_requests, spec.max_requests, spec.max_retries
    )
    if spec.retry_budget is not None:
        budget = found.thresholds[0].retry_budget
        budget.budget_percent.value = spec.retry_budget.percent
        budget.min_retry_concurrency.value = spec.retry_budget.min_concurrency
    return found


def http_options(spec: model.UpstreamConnection, spoken: Sequence[str]) -> HttpProtocolOptions:
    options = hardening.upstream_http(spoken)
    common = options.common_http_protocol_options
    common.idle_timeout.CopyFrom(duration(max(1, spec.idle_timeout)))
    if spec.max_duration:
        common.max_connection_duration.CopyFrom(duration(spec.max_duration))
    if spec.max_requests is not None:
        common.max_requests_per_connection.value = spec.max_requests
    return options
