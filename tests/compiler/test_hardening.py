"""Hardening cannot be forgotten: every compiled message of every golden case is walked for every field it must have."""

from collections.abc import Iterator
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.ext_authz.v3.ext_authz_pb2 import ExtAuthz
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication
from envoy.extensions.filters.http.ratelimit.v3.rate_limit_pb2 import RateLimit
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBACPerRoute
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext
from google.protobuf.json_format import MessageToDict

from xds_server.compiler.tables.entries import Entry
from xds_server.compiler.tables.reading import leaves_of, listed, routes_of

from .golden import NAMES, compiled

# reliability of the edge: the connection manager, by field path; None means that the field must not be set
MANAGER = {
    "use_remote_address": True,
    "skip_xff_append": False,
    "internal_address_config": None,
    "normalize_path": True,
    "merge_slashes": True,
    "path_with_escaped_slashes_action": "REJECT_REQUEST",
    "strip_any_host_port": True,
    "strip_trailing_host_dot": True,
    "common_http_protocol_options.headers_with_underscores_action": "REJECT_REQUEST",
    "common_http_protocol_options.idle_timeout": "300s",
    "common_http_protocol_options.max_connection_duration": "3600s",
    "common_http_protocol_options.max_headers_count": 100,
    "common_http_protocol_options.max_stream_duration": None,
    "common_http_protocol_options.max_requests_per_connection": 10000,
    "max_request_headers_kb": 32,
    "request_headers_timeout": "10s",
    "request_timeout": "60s",
    "stream_idle_timeout": "60s",
    "stream_flush_timeout": "30s",
    "delayed_close_timeout": "1s",
    "drain_timeout": "5s",
    "http_protocol_options.allow_chunked_length": False,
    "http_protocol_options.accept_http_10": False,
    "http2_protocol_options.max_concurrent_streams": 100,
    "http2_protocol_options.initial_stream_window_size": 65536,
    "http2_protocol_options.initial_connection_window_size": 1048576,
    "http2_protocol_options.max_outbound_frames": 10000,
    "http2_protocol_options.max_outbound_control_frames": 1000,
    "http2_protocol_options.max_consecutive_inbound_frames_with_empty_payload": 1,
    "http2_protocol_options.max_inbound_priority_frames_per_stream": 100,
    "http2_protocol_options.max_inbound_window_update_frames_per_data_frame_sent": 10,
    "http2_protocol_options.connection_keepalive.interval": "30s",
    "http2_protocol_options.connection_keepalive.timeout": "10s",
    "stream_error_on_invalid_http_message": False,
    "forward_client_cert_details": "SANITIZE",
    "server_header_transformation": "PASS_THROUGH",
    "preserve_external_request_id": False,
    "always_set_request_id_in_response": True,
    "upgrade_configs": None,
    "rds.config_source.ads": {},
}
LISTENER = {
    "per_connection_buffer_limit_bytes": 32768,
    "listener_filters_timeout": "5s",
    "continue_on_listener_filters_timeout": False,
    "tcp_backlog_size": 1024,
}
ROUTES = {"validate_clusters": True, "most_specific_header_mutations_wins": True}
FORGED = {
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-forwarded-host",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
}


def lint(message: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """The fields that are not as wanted, with what they are. An unset plain field reads as its type's zero."""
    found = MessageToDict(message, preserving_proto_field_name=True)
    wrong = {}
    for path, value in wanted.items():
        seen: Any = found
        for name in path.split("."):
            seen = seen.get(name) if isinstance(seen, dict) else None
        if seen != value and not (seen is None and value in {False, "SANITIZE"}):  # zero values
            wrong[path] = seen
    return wrong


def messages(name: str, kind: Any) -> Iterator[Any]:
    return (m for m in compiled(name).messages if isinstance(m, kind))


def unpacked(value: Any, kind: Any) -> Any:
    result = kind()
    assert value.Unpack(result), f"{value.type_url} is no {kind.DESCRIPTOR.full_name}"
    return result


def managers(listener: Listener) -> Iterator[HttpConnectionManager]:
    for chain in listener.filter_chains:
        yield from (unpacked(f.typed_config, HttpConnectionManager) for f in chain.filters)


def by_name(manager: HttpConnectionManager) -> dict[str, HttpFilter]:
    return {filter_.name: filter_ for filter_ in manager.http_filters}


@pytest.mark.parametrize("name", NAMES)
def test_every_listener(name: str) -> None:
    for listener in messages(name, Listener):
        assert lint(listener, LISTENER) == {}
        for chain in listener.filter_chains:
            assert lint(chain, {"transport_socket_connect_timeout": "10s"}) == {}
            if chain.HasField("transport_socket"):
                context = unpacked(chain.transport_socket.typed_config, DownstreamTlsContext).common_tls_context
                assert context.tls_params.tls_minimum_protocol_version in {3, 4}  # TLS 1.2, 1.3
                assert context.alpn_protocols[-1] == "http/1.1"
                assert not context.tls_certificates, "keys go by SDS"
        for manager in managers(listener):
            assert lint(manager, MANAGER) == {}
            router = unpacked(manager.http_filters[-1].typed_config, Router)
            assert router.suppress_envoy_headers


@pytest.mark.parametrize("name", NAMES)
def test_every_route_table(name: str) -> None:
    for table in messages(name, RouteConfiguration):
        assert lint(table, ROUTES) == {}
        assert set(table.request_headers_to_remove) >= FORGED
        assert {"*"} <= {domain for host in table.virtual_hosts for domain in host.domains}
        for host in table.virtual_hosts:
            lists = [listed(leaf) for leaf in leaves_of(host.matcher)] if host.HasField("matcher") else [host.routes]
            for routes in lists:
                last = routes[-1]
                answers = last.match.prefix == "/" and (last.direct_response.status == 404 or last.HasField("redirect"))
                assert answers or any(Entry.of(route).always for route in routes), "its end may be reached"


@pytest.mark.parametrize("name", NAMES)
def test_every_route_says_who_may_call_it(name: str) -> None:
    """No filter's default is relied upon; and a route that is sent on is timed."""
    for table in messages(name, RouteConfiguration):
        for route in (route for host in table.virtual_hosts for route in routes_of(host)):
            assert {"tollhouse/jwt_authn", "tollhouse/ext_authz", "envoy.filters.http.rbac"} <= set(
                route.typed_per_filter_config
            ), route.name
            unpacked(route.typed_per_filter_config["envoy.filters.http.rbac"], RBACPerRoute)
            if route.HasField("route") and route.route.cluster != "tollhouse/nowhere":
                assert route.route.HasField("timeout"), route.name
                assert route.route.HasField("idle_timeout"), route.name
                assert not route.route.prefix_rewrite
                assert route.route.retry_policy.num_retries.value <= 10


@pytest.mark.parametrize("name", NAMES)
def test_every_cluster(name: str) -> None:
    for cluster in messages(name, Cluster):
        assert lint(cluster, {"per_connection_buffer_limit_bytes": 32768}) == {}, cluster.name
        assert cluster.HasField("connect_timeout"), cluster.name
        (threshold,) = cluster.circuit_breakers.thresholds
        for field in ("max_connections", "max_pending_requests", "max_requests", "max_retries", "retry_budget"):
            assert threshold.HasField(field), f"{cluster.name}: {field}"
        assert cluster.common_lb_config.HasField("healthy_panic_threshold")
        assert cluster.common_lb_config.healthy_panic_threshold.value == 0
        if cluster.HasField("transport_socket"):
            context = unpacked(cluster.transport_socket.typed_config, UpstreamTlsContext)
            combined = context.common_tls_context.combined_validation_context
            assert context.sni
            assert combined.default_validation_context.match_typed_subject_alt_names
            assert combined.validation_context_sds_secret_config.HasField("sds_config")


@pytest.mark.parametrize("name", NAMES)
def test_every_filter_that_decides(name: str) -> None:
    found = {m.name: m.typed_config for m in compiled(name).messages if m.DESCRIPTOR.name == "TypedExtensionConfig"}
    jwt = unpacked(found["tollhouse/jwt_authn"], JwtAuthentication)
    assert not jwt.bypass_cors_preflight
    assert len(jwt.rules) == (1 if jwt.providers else 0)
    for provider in jwt.providers.values():
        assert provider.issuer
        assert provider.audiences
        assert provider.require_expiration
        assert provider.HasField("max_lifetime")
        assert 0 < provider.clock_skew_seconds < 60
        assert not provider.forward
        assert provider.from_headers or provider.from_cookies, "or ?access_token= is accepted"
        assert not provider.from_params
    assert "allow_missing_or_failed" not in str(jwt)
    authz = unpacked(found["tollhouse/ext_authz"], ExtAuthz)
    assert not authz.failure_mode_allow
    assert authz.status_on_error.code == 503
    assert authz.validate_mutations
    assert authz.encode_raw_headers
    assert not authz.clear_route_cache
    assert authz.decoder_header_mutation_rules.disallow_all.value
    assert authz.allowed_headers.patterns
    for listener in messages(name, Listener):
        for manager in managers(listener):
            limit = unpacked(by_name(manager)["envoy.filters.http.ratelimit"].typed_config, RateLimit)
            assert limit.status_on_error.code == 503
            assert limit.timeout.ToMilliseconds() == 100
            assert limit.rate_limited_as_resource_exhausted
