"""Listeners: a socket, its TLS, and one hardened connection manager with the filter chain.

A listener's bytes depend on the listener's own part of the document, the settings and `rate_limit_defaults`, and on
nothing else: Envoy drains the connections of a listener that changes.
"""

from collections.abc import Iterator
from typing import Final

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog, AccessLogFilter, RuntimeFilter
from envoy.config.core.v3.base_pb2 import INBOUND
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, FilterChainMatch, ListenerFilter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.access_loggers.stream.v3.stream_pb2 import StdoutAccessLog
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    Rds,
)
from envoy.type.v3.percent_pb2 import FractionalPercent
from google.protobuf.struct_pb2 import Struct

from gateway import model
from xds_server.compiler import chain, hardening, tls
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError
from xds_server.compiler.findings import Findings
from xds_server.compiler.identity import DECIDED_NAMESPACE
from xds_server.compiler.replies import local_replies
from xds_server.compiler.wire import ads, pack, socket_address

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


def listener(context: Context, findings: Findings, name: str) -> Listener | None:
    """None when not one of its certificates is there: then it does not listen."""
    spec = context.gateway.listeners[name]
    chains = list(filter_chains(context, findings, name, spec))
    if not chains:
        return None
    return Listener(
        name=name,
        stat_prefix=name,
        address=socket_address(context.settings.address_of(spec), context.settings.port_of(name, spec)),
        traffic_direction=INBOUND,
        filter_chains=chains,
        listener_filters=[tls_inspector()] if spec.protocol == "HTTPS" else [],
        **hardening.listener_fields(),
    )


def filter_chains(context: Context, findings: Findings, name: str, spec: model.Listener) -> Iterator[FilterChain]:
    """One chain in the clear, or one for each certificate's hosts."""
    manager = Filter(name=MANAGER, typed_config=pack(connection_manager(context, name, spec)))
    if spec.protocol == "HTTP":
        yield FilterChain(name=name, filters=[manager], **hardening.filter_chain_fields())
        return
    certificates = spec.tls.certificates if spec.tls is not None else ()
    if not certificates:
        findings.add(("listeners", name), CompileError("an HTTPS listener needs a certificate", "tls"))
    for index, certificate in enumerate(certificates):
        try:
            socket = tls.downstream(context, spec, certificate)
        except Exception as error:
            findings.add(("listeners", name, "tls", "certificates", index), error)
            continue
        names = () if "*" in certificate.hosts else certificate.hosts
        yield FilterChain(
            name=f"{name}/{certificate.secret}",
            filter_chain_match=FilterChainMatch(server_names=names) if names else None,
            filters=[manager],
            transport_socket=socket,
            **hardening.filter_chain_fields(),
        )


def connection_manager(context: Context, name: str, spec: model.Listener) -> HttpConnectionManager:
    return hardening.connection_manager(
        codec_type=HttpConnectionManager.AUTO if spec.http2 else HttpConnectionManager.HTTP1,
        stat_prefix=name,
        rds=Rds(config_source=ads(), route_config_name=name),
        http_filters=chain.http_filters(context, spec),
        xff_num_trusted_hops=spec.trusted_hops,
        local_reply_config=local_replies(),
        access_log=access_logs(spec.access_log),
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
