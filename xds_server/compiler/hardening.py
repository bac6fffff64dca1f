"""The one place that writes the settings every listener, connection manager, route table and cluster must have.

Envoy's defaults suit a sidecar; these suit an edge that strangers talk to (Envoy's "Configuring Envoy as an edge proxy"
and the reasons beside each). `tests/compiler` walks every compiled message and asserts each field, so that a new code
path cannot forget one.
"""

from collections.abc import Iterable
from typing import Any as Value
from typing import Final

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutation
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.core.v3.protocol_pb2 import (
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    Http3ProtocolOptions,
    HttpProtocolOptions,
    KeepaliveSettings,
    QuicProtocolOptions,
)
from envoy.config.listener.v3.quic_config_pb2 import QuicProtocolOptions as QuicListenerOptions
from envoy.config.listener.v3.udp_listener_config_pb2 import UdpListenerConfig
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.http.early_header_mutation.header_mutation.v3.header_mutation_pb2 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions as UpstreamHttpOptions
from envoy.type.v3.percent_pb2 import Percent

from xds_server.compiler import names
from xds_server.compiler.wire import boolean, duration, extension, uint32

BUFFER_LIMIT: Final = 32_768
MAX_DIRECT_BODY: Final = 262_144  # 65,536 characters, the language's limit, in UTF-8
RETRY_BUDGET_PERCENT: Final = 20.0

FORGED_HEADERS: Final = (
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
    "x-forwarded-host",
    "x-http-method-override",
    "x-original-url",
    "x-rewrite-url",
)
"""Client headers that Envoy passes on and that upstreams are known to trust over the request line."""


def connection_manager(listener: str, **fields: Value) -> HttpConnectionManager:
    """An HTTP connection manager for the edge; `fields` add what differs between listeners."""
    return HttpConnectionManager(
        early_header_mutation_extensions=[search_headers(listener)],
        # Whose address it is: the connection's, unless the listener names trusted proxies. internal_address_config must
        # stay unset: an empty one makes private addresses and loopback "internal", whose x-envoy-* are believed.
        use_remote_address=boolean(True),
        skip_xff_append=False,
        # One spelling of a path: what is matched and authorised is what the upstream sees.
        normalize_path=boolean(True),
        merge_slashes=True,
        path_with_escaped_slashes_action=HttpConnectionManager.REJECT_REQUEST,
        strip_any_host_port=True,
        strip_trailing_host_dot=True,
        # Slow, huge and endless requests.
        common_http_protocol_options=HttpProtocolOptions(
            idle_timeout=duration(300_000),
            max_connection_duration=duration(3_600_000),
            max_headers_count=uint32(100),
            max_requests_per_connection=uint32(10_000),
            headers_with_underscores_action=HttpProtocolOptions.REJECT_REQUEST,
        ),
        max_request_headers_kb=uint32(32),
        request_headers_timeout=duration(10_000),
        request_timeout=duration(60_000),
        stream_idle_timeout=duration(60_000),
        stream_flush_timeout=duration(30_000),
        delayed_close_timeout=duration(1_000),
        drain_timeout=duration(5_000),
        # Request smuggling.
        http_protocol_options=Http1ProtocolOptions(allow_chunked_length=False, accept_http_10=False),
        stream_error_on_invalid_http_message=boolean(False),
        http2_protocol_options=http2(),
        # What callers may say about themselves, and what they learn about us.
        forward_client_cert_details=HttpConnectionManager.SANITIZE,
        server_header_transformation=HttpConnectionManager.PASS_THROUGH,
        preserve_external_request_id=False,
        always_set_request_id_in_response=True,
        **fields,
    )


def search_headers(listener: str) -> TypedExtensionConfig:
    """The headers by which routes are found, written over whatever the client sent under these names.

    Envoy does this after it has normalised the path, and before it looks for a route. `PATH` says which: the default
    would believe a client's x-envoy-original-path.
    """
    values = {names.PATH_HEADER: "%PATH(NQ:PATH)%/", names.LISTENER_HEADER: listener.replace("%", "%%")}
    overwrite = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    return extension(
        "tollhouse/search_headers",
        EarlyHeaderMutation(
            mutations=[
                HeaderMutation(
                    append=HeaderValueOption(header=HeaderValue(key=key, value=value), append_action=overwrite)
                )
                for key, value in values.items()
            ]
        ),
    )


def http2() -> Http2ProtocolOptions:
    """HTTP/2 with small windows and floods cut short; written out although some values are today's defaults."""
    return Http2ProtocolOptions(
        max_concurrent_streams=uint32(100),
        initial_stream_window_size=uint32(65_536),
        initial_connection_window_size=uint32(1_048_576),
        max_outbound_frames=uint32(10_000),
        max_outbound_control_frames=uint32(1_000),
        max_consecutive_inbound_frames_with_empty_payload=uint32(1),
        max_inbound_priority_frames_per_stream=uint32(100),
        max_inbound_window_update_frames_per_data_frame_sent=uint32(10),
        connection_keepalive=KeepaliveSettings(interval=duration(30_000), timeout=duration(10_000)),
    )


def quic() -> QuicProtocolOptions:
    """QUIC with the windows and streams of HTTP/2."""
    return QuicProtocolOptions(
        max_concurrent_streams=uint32(100),
        initial_stream_window_size=uint32(65_536),
        initial_connection_window_size=uint32(1_048_576),
    )


def http3() -> Http3ProtocolOptions:
    return Http3ProtocolOptions(
        quic_protocol_options=quic(),
        override_stream_error_on_invalid_http_message=boolean(False),
        allow_extended_connect=False,
    )


def udp_listener() -> UdpListenerConfig:
    """Settings of a QUIC listener's socket: idle connections end as those over TCP, handshakes as well."""
    return UdpListenerConfig(
        quic_options=QuicListenerOptions(
            quic_protocol_options=quic(), idle_timeout=duration(300_000), crypto_handshake_timeout=duration(10_000)
        )
    )


def route_configuration(**fields: Value) -> RouteConfiguration:
    """A route table that is refused when it names a missing cluster, and whose edits override those of the gateway."""
    return RouteConfiguration(
        validate_clusters=boolean(True),
        request_headers_to_remove=(*FORGED_HEADERS, names.LISTENER_HEADER, names.PATH_HEADER),
        most_specific_header_mutations_wins=True,  # or a route could not set what is removed here
        max_direct_response_body_size_bytes=uint32(MAX_DIRECT_BODY),
        **fields,
    )


def listener_fields() -> dict[str, Value]:
    """Settings that every Listener has."""
    return {
        "per_connection_buffer_limit_bytes": uint32(BUFFER_LIMIT),
        "listener_filters_timeout": duration(5_000),
        "continue_on_listener_filters_timeout": False,
        "tcp_backlog_size": uint32(1024),
    }


def filter_chain_fields() -> dict[str, Value]:
    return {"transport_socket_connect_timeout": duration(10_000)}


def cluster_fields() -> dict[str, Value]:
    """Settings that every Cluster has."""
    return {"per_connection_buffer_limit_bytes": uint32(BUFFER_LIMIT)}


def circuit_breakers(connections: int, pending: int, requests: int, retries: int) -> CircuitBreakers:
    """Thresholds with a retry budget: retries may be 20 % of the requests in flight, and `retries` in any case."""
    budget = CircuitBreakers.Thresholds.RetryBudget(
        budget_percent=Percent(value=RETRY_BUDGET_PERCENT), min_retry_concurrency=uint32(retries)
    )
    return CircuitBreakers(
        thresholds=[
            CircuitBreakers.Thresholds(
                max_connections=uint32(connections),
                max_pending_requests=uint32(pending),
                max_requests=uint32(requests),
                max_retries=uint32(retries),
                retry_budget=budget,
            )
        ]
    )


def upstream_http(protocols: Iterable[str]) -> UpstreamHttpOptions:
    """How to talk to an upstream: `h2`, `http/1.1`, or whichever of both TLS negotiates."""
    common = HttpProtocolOptions(idle_timeout=duration(60_000), max_headers_count=uint32(100))
    keepalive = Http2ProtocolOptions(
        connection_keepalive=KeepaliveSettings(interval=duration(30_000), timeout=duration(5_000))
    )
    match sorted(protocols):
        case ["h2"]:
            explicit = UpstreamHttpOptions.ExplicitHttpConfig(http2_protocol_options=keepalive)
            return UpstreamHttpOptions(common_http_protocol_options=common, explicit_http_config=explicit)
        case ["h2", "http/1.1"]:
            auto = UpstreamHttpOptions.AutoHttpConfig(
                http_protocol_options=Http1ProtocolOptions(), http2_protocol_options=keepalive
            )
            return UpstreamHttpOptions(common_http_protocol_options=common, auto_config=auto)
        case _:
            explicit = UpstreamHttpOptions.ExplicitHttpConfig(http_protocol_options=Http1ProtocolOptions())
            return UpstreamHttpOptions(common_http_protocol_options=common, explicit_http_config=explicit)
