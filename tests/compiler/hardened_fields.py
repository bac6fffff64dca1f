"""The fields that every compiled message must have, a table for each kind of message.

A plain value is what the field must be, None that it may not be set, a function that it must hold for what is there.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.ext_authz.v3.ext_authz_pb2 import ExtAuthz
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication, JwtProvider
from envoy.extensions.filters.http.ratelimit.v3.rate_limit_pb2 import RateLimit
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext
from google.protobuf.message import Message

Row = Any
Table = Mapping[str, Row]


def positive(value: Any) -> bool:
    """A duration or a number above zero, which for Envoy is mostly no limit at all."""
    return value is not None and float(str(value).removesuffix("s")) > 0


def within(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: value is not None and low <= float(str(value).removesuffix("s")) <= high


def given(value: Any) -> bool:
    return value is not None


def one_of(*values: Any) -> Callable[[Any], bool]:
    return lambda value: value in values


def written(value: Any) -> bool:
    return bool(value)


def offered(value: Any) -> bool:
    return bool(value) and set(value) <= {"h2", "http/1.1", "h3"}


def exact_only(patterns: Any) -> bool:
    return bool(patterns) and all(set(pattern) <= {"exact", "ignore_case"} for pattern in patterns)


ADJUSTABLE: Final = {
    "path_with_escaped_slashes_action": one_of("REJECT_REQUEST", "UNESCAPE_AND_REDIRECT"),
    "common_http_protocol_options.idle_timeout": positive,
    "common_http_protocol_options.max_headers_count": positive,
    "max_request_headers_kb": positive,
    "request_headers_timeout": positive,
    "request_timeout": positive,
    "stream_idle_timeout": positive,
}
"""What a listener of the document may set for itself; never to nothing."""

MANAGER: Final = {
    "use_remote_address": True,
    "skip_xff_append": False,
    "internal_address_config": None,  # not as the edge example has it: see DECISIONS.md
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
    "server_header_transformation": "PASS_THROUGH",
    "server_name": None,
    "via": None,
    "preserve_external_request_id": False,
    "always_set_request_id_in_response": True,
    "upgrade_configs": None,
    "original_ip_detection_extensions": None,
    "local_reply_config.mappers": written,
    "route_config": None,
}
HTTP3: Final = {
    "http3_protocol_options.quic_protocol_options.max_concurrent_streams": 100,
    "http3_protocol_options.quic_protocol_options.initial_stream_window_size": 65536,
    "http3_protocol_options.quic_protocol_options.initial_connection_window_size": 1048576,
    "http3_protocol_options.override_stream_error_on_invalid_http_message": False,
    "http3_protocol_options.allow_extended_connect": False,
}
LISTENER: Final = {
    "per_connection_buffer_limit_bytes": 32768,
    "listener_filters_timeout": "5s",
    "continue_on_listener_filters_timeout": False,
    "tcp_backlog_size": 1024,
    "default_filter_chain": None,
    "use_original_dst": None,
}
QUIC: Final = {
    "udp_listener_config.quic_options.idle_timeout": "300s",
    "udp_listener_config.quic_options.crypto_handshake_timeout": "10s",
    "udp_listener_config.quic_options.quic_protocol_options.max_concurrent_streams": 100,
    "udp_listener_config.quic_options.quic_protocol_options.initial_stream_window_size": 65536,
    "udp_listener_config.quic_options.quic_protocol_options.initial_connection_window_size": 1048576,
}
DOWNSTREAM: Final = {
    "common_tls_context.tls_params.tls_minimum_protocol_version": one_of("TLSv1_2", "TLSv1_3"),
    "common_tls_context.alpn_protocols": offered,
    "common_tls_context.tls_certificates": None,  # keys go by SDS
    "common_tls_context.tls_certificate_sds_secret_configs": written,
    "common_tls_context.validation_context": None,
    "common_tls_context.key_log": None,
    "session_ticket_keys": None,
}
UPSTREAM: Final = {
    "sni": written,
    "common_tls_context.tls_params.tls_minimum_protocol_version": one_of("TLSv1_2", "TLSv1_3"),
    "common_tls_context.tls_params.tls_maximum_protocol_version": "TLSv1_3",
    "common_tls_context.tls_certificates": None,
    "common_tls_context.combined_validation_context.default_validation_context.match_typed_subject_alt_names": written,
    "common_tls_context.combined_validation_context.default_validation_context.trust_chain_verification": None,
    "common_tls_context.combined_validation_context.validation_context_sds_secret_config.sds_config": written,
    "allow_renegotiation": False,
}
CLUSTER: Final = {"per_connection_buffer_limit_bytes": 32768, "connect_timeout": positive}
THRESHOLD: Final = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), given)
TABLE: Final = {"validate_clusters": True, "most_specific_header_mutations_wins": True}
FORGED: Final = {
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-forwarded-host",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
}
PROVIDER: Final = {
    "issuer": written,
    "audiences": written,
    "local_jwks.inline_string": written,
    "remote_jwks": None,
    "require_expiration": True,
    "max_lifetime": positive,
    "clock_skew_seconds": within(1, 59),
    "forward": False,
    "forward_payload_header": None,
    "from_params": None,  # nor ?access_token=, which Envoy reads where no place is named
    "payload_in_metadata": written,
    "clear_route_cache": False,
}
JWT: Final = {"bypass_cors_preflight": False, "filter_state_rules": None}
EXT_AUTHZ: Final = {
    "transport_api_version": "V3",
    "failure_mode_allow": False,
    "failure_mode_allow_header_add": False,
    "grpc_service.timeout": within(0.25, 0.5),
    "status_on_error.code": "ServiceUnavailable",
    "validate_mutations": True,
    "encode_raw_headers": True,
    "decoder_header_mutation_rules.disallow_all": True,
    "clear_route_cache": False,
    "allowed_headers.patterns": exact_only,
    "filter_enabled": None,
    "http_service": None,
}
RATE_LIMIT: Final = {
    "domain": written,
    "timeout": within(0.05, 0.1),
    "rate_limit_service.grpc_service.timeout": within(0.05, 0.1),
    "rate_limit_service.transport_api_version": "V3",
    "rate_limited_as_resource_exhausted": True,
    "disable_x_envoy_ratelimited_header": True,
    "status_on_error.code": "ServiceUnavailable",
}
ROUTER: Final = {"suppress_envoy_headers": True}
TABLES: Final[Mapping[type[Message], Table]] = {
    Listener: LISTENER,
    FilterChain: {"transport_socket_connect_timeout": "10s", "use_proxy_proto": False},
    DownstreamTlsContext: DOWNSTREAM,
    UpstreamTlsContext: UPSTREAM,
    Cluster: CLUSTER,
    RouteConfiguration: TABLE,
    JwtAuthentication: JWT,
    JwtProvider: PROVIDER,
    ExtAuthz: EXT_AUTHZ,
    RateLimit: RATE_LIMIT,
    Router: ROUTER,
}
