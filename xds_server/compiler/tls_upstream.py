"""TLS to upstreams: whom Envoy believes, and what it shows. Keys and authorities come over SDS."""

from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    SubjectAltNameMatcher,
    TlsParameters,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, UpstreamTlsContext

from gateway.model import UpstreamTls
from gateway.secrets import authority
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError
from xds_server.compiler.settings import CaBundle
from xds_server.compiler.tls import SOCKET, VERSIONS, certificate_of, sds
from xds_server.compiler.wire import exact, pack


def upstream(context: Context, spec: UpstreamTls, protocols: tuple[str, ...]) -> TransportSocket:
    """The server's certificate must come from the bundle and have one of the names that are written."""
    common = CommonTlsContext(
        tls_params=TlsParameters(
            tls_minimum_protocol_version=VERSIONS[spec.min_version],
            tls_maximum_protocol_version=TlsParameters.TLSv1_3,  # Envoy as a client stops at 1.2 by default
        ),
        alpn_protocols=protocols,
        combined_validation_context=validation(context, spec),
        tls_certificate_sds_secret_configs=[sds(name) for name in shown(context, spec)],
    )
    return TransportSocket(name=SOCKET, typed_config=pack(UpstreamTlsContext(common_tls_context=common, sni=spec.sni)))


def validation(context: Context, spec: UpstreamTls) -> CommonTlsContext.CombinedCertificateValidationContext:
    bundle = authority(spec)
    if not isinstance(context.secrets.get(bundle), CaBundle):
        field = "ca_secret" if spec.ca_secret else "ca"
        raise CompileError(f"the secret store has no CA bundle {bundle!r}", "tls", field, code="GW602")
    names = [SubjectAltNameMatcher(san_type=SubjectAltNameMatcher.DNS, matcher=exact(name)) for name in spec.names]
    return CommonTlsContext.CombinedCertificateValidationContext(
        default_validation_context=CertificateValidationContext(match_typed_subject_alt_names=names),
        validation_context_sds_secret_config=sds(bundle),
    )


def shown(context: Context, spec: UpstreamTls) -> tuple[str, ...]:
    """The certificate by which the endpoints know us, if they want one; it must be usable, or all would be refused."""
    if spec.client_secret is None:
        return ()
    try:
        certificate_of(context, spec.client_secret)
    except CompileError as error:
        raise CompileError(error.message, "tls", "client_secret", code=error.code) from None
    return (spec.client_secret,)
