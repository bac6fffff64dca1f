"""Listeners: a socket, its TLS, and one hardened connection manager with the filter chain.

A listener's bytes depend on the listener's own part of the document, the settings and `rate_limit_defaults`, and on
nothing else: Envoy drains the connections of a listener that changes.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog, AccessLogFilter, RuntimeFilter
from envoy.config.core.v3.address_pb2 import SocketAddress
from envoy.config.core.v3.base_pb2 import INBOUND, TransportSocket
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, ListenerFilter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.access_loggers.stream.v3.stream_pb2 import StdoutAccessLog
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from envoy.type.v3.percent_pb2 import FractionalPercent
from google.protobuf.struct_pb2 import Struct

from gateway import model
from xds_server.compiler import chain, downstream_tls, hardening, names
from xds_server.compiler.context import Context
from xds_server.compiler.findings import Findings
from xds_server.compiler.identity import DECIDED_NAMESPACE
from xds_server.compiler.replies import local_replies
from xds_server.compiler.tables.scoping import find_routes
from xds_server.compiler.wire import boolean, duration, pack, socket_address

MANAGER: Final = "envoy.filters.network.http_connection_manager"
LOG_FORMAT: Final = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "client_address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "client": f"%DYNAMIC_METADATA({DECIDED_NAMESPACE}:client)%",
    "tier": f"%DYNAMIC_METADATA({DECIDED_NAMESPACE}:tier)%",
    "method": "%REQ(:METHOD)%",
    "host": "%REQ(:AUTHORITY)%",
    "path": "%PATH(NQ)%",  # queries hold what people should not put there
    "protocol": "%PROTOCOL%",
    "route": "%ROUTE_NAME%",
    "upstream": "%UPSTREAM_CLUSTER%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "duration_ms": "%DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
}


def listeners(context: Context, findings: Findings, name: str) -> Iterator[Listener]:
    """The TCP listener, and the UDP one on the same port for HTTP/3. None when not one certificate is there."""
    spec = context.gateway.listeners[name]
    if spec.protocol == "HTTP":
        yield tcp(context, name, spec, [FilterChain(name=name, filters=[manager_filter(context, name, spec)])])
        return
    certificates = list(downstream_tls.served(context, findings, name, spec))
    if not certificates:
        return
    filters = [manager_filter(context, name, spec)]
    yield tcp(context, name, spec, (chain_of(found, filters, downstream_tls.tcp_socket) for found in certificates))
    if spec.http3:
        filters = [manager_filter(context, name, spec, quic=True)]
        yield udp(context, name, spec, (chain_of(found, filters, downstream_tls.quic_socket) for found in certificates))


def tcp(context: Context, name: str, spec: model.Listener, chains: Iterable[FilterChain]) -> Listener:
    return Listener(
        name=name,
        stat_prefix=name,
        address=socket_address(context.settings.address_of(spec), context.settings.port_of(name, spec)),
        traffic_direction=INBOUND,
        filter_chains=map(hardened, chains),
        listener_filters=[tls_inspector()] if spec.protocol == "HTTPS" else [],
        **hardening.listener_fields(),
    )


def udp(context: Context, name: str, spec: model.Listener, chains: Iterable[FilterChain]) -> Listener:
    """QUIC reads the server name itself, so no listener filter is needed."""
    address = socket_address(context.settings.address_of(spec), context.settings.port_of(name, spec))
    address.socket_address.protocol = SocketAddress.UDP
    return Listener(
        name=names.quic_listener(name),
        stat_prefix=names.quic_listener(name),
        address=address,
        traffic_direction=INBOUND,
        filter_chains=map(hardened, chains),
        udp_listener_config=hardening.udp_listener(),
        **hardening.listener_fields(),
    )


def hardened(chain: FilterChain) -> FilterChain:
    chain.MergeFrom(FilterChain(**hardening.filter_chain_fields()))
    return chain


def chain_of(
    found: downstream_tls.Served, filters: list[Filter], socket: Callable[[DownstreamTlsContext], TransportSocket]
) -> FilterChain:
    return FilterChain(
        name=found.name, filter_chain_match=found.match, filters=filters, transport_socket=socket(found.context)
    )


def manager_filter(context: Context, name: str, spec: model.Listener, *, quic: bool = False) -> Filter:
    manager = connection_manager(context, name, spec)
    if quic:
        manager.codec_type = HttpConnectionManager.HTTP3
        manager.http3_protocol_options.CopyFrom(hardening.http3())
        manager.stat_prefix = names.quic_listener(name)
    return Filter(name=MANAGER, typed_config=pack(manager))


def connection_manager(context: Context, name: str, spec: model.Listener) -> HttpConnectionManager:
    manager = hardening.connection_manager(
        name,
        codec_type=HttpConnectionManager.AUTO if spec.http2 else HttpConnectionManager.HTTP1,
        stat_prefix=name,
        http_filters=chain.http_filters(context, spec),
        xff_num_trusted_hops=spec.trusted_hops,
        local_reply_config=local_replies(),
        access_log=access_logs(spec.access_log),
    )
    find_routes(manager, name, spec)
    limit(manager, spec)
    if spec.tls is not None and downstream_tls.checks_clients(spec.tls.client_validation):
        tell_client_certificate(manager)
    return manager


def limit(manager: HttpConnectionManager, spec: model.Listener) -> None:
    """The listener's own timeouts and limits, over those that every listener has."""
    if spec.escaped_slashes == "redirect":
        manager.path_with_escaped_slashes_action = HttpConnectionManager.UNESCAPE_AND_REDIRECT
    common, times, sizes = manager.common_http_protocol_options, spec.timeouts, spec.limits
    for field, milliseconds in (
        (manager.request_headers_timeout, times.headers),
        (manager.request_timeout, times.request),
        (common.idle_timeout, times.idle),
        (manager.stream_idle_timeout, times.stream_idle),
    ):
        if milliseconds is not None:
            field.CopyFrom(duration(milliseconds))
    if sizes.header_bytes is not None:
        manager.max_request_headers_kb.value = sizes.header_bytes // 1024
    if sizes.headers is not None:
        common.max_headers_count.value = sizes.headers


def tell_client_certificate(manager: HttpConnectionManager) -> None:
    """Upstreams are told who the verified client is; what clients write there themselves is still removed."""
    manager.forward_client_cert_details = HttpConnectionManager.SANITIZE_SET
    manager.set_current_client_cert_details.CopyFrom(
        HttpConnectionManager.SetCurrentClientCertDetails(subject=boolean(True), dns=True, uri=True)
    )


def access_logs(spec: model.AccessLog | str) -> list[AccessLog]:
    """JSON lines on standard output; of a sample of the requests, if so said."""
    if not isinstance(spec, model.AccessLog):
        return []
    fields = Struct()
    fields.update(LOG_FORMAT)
    config = StdoutAccessLog(log_format=SubstitutionFormatString(json_format=fields))
    sampled = AccessLogFilter(
        runtime_filter=RuntimeFilter(
            runtime_key="tollhouse.access_log.sample",
            percent_sampled=FractionalPercent(
                numerator=round(spec.sample * 10_000), denominator=FractionalPercent.MILLION
            ),
            use_independent_randomness=True,
        )
    )
    log = AccessLog(name="envoy.access_loggers.stdout", typed_config=pack(config))
    if spec.sample < 100:
        log.filter.CopyFrom(sampled)
    return [log]


def tls_inspector() -> ListenerFilter:
    """Reads the server name out of the client's hello, by which the chain is chosen."""
    return ListenerFilter(name="envoy.filters.listener.tls_inspector", typed_config=pack(TlsInspector()))
