"""TLS of listeners: certificates by server name, what clients must prove, and the same for QUIC.

What is secret and what is rotated goes by SDS: a new certificate or revocation list changes no listener.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from envoy.config.core.v3.base_pb2 import DataSource, TransportSocket, WatchedDirectory
from envoy.config.listener.v3.listener_components_pb2 import FilterChainMatch
from envoy.extensions.transport_sockets.quic.v3.quic_transport_pb2 import QuicDownstreamTransport
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    SubjectAltNameMatcher,
    TlsCertificate,
    TlsParameters,
)
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret as EnvoySecret
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, DownstreamTlsContext
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from gateway.model import ClientValidation, Listener, ListenerCertificate, ListenerTls, NameMatch, SubjectAltName
from xds_server.compiler import names
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError
from xds_server.compiler.findings import Findings
from xds_server.compiler.settings import CaBundle, RevocationList
from xds_server.compiler.tls import SOCKET, VERSIONS, certificate_of, sds
from xds_server.compiler.wire import boolean, pack, regex

Combined = CommonTlsContext.CombinedCertificateValidationContext
"""What stands in the listener, together with what comes by SDS."""

QUIC_SOCKET: Final = "envoy.transport_sockets.quic"
KINDS: Final = {
    "uri": SubjectAltNameMatcher.URI,
    "dns": SubjectAltNameMatcher.DNS,
    "email": SubjectAltNameMatcher.EMAIL,
}


@dataclass(frozen=True, slots=True)
class Served:
    """One certificate with the server names it is for (none: all others), and the TLS that goes with it."""

    name: str
    match: FilterChainMatch | None
    context: DownstreamTlsContext


def served(context: Context, findings: Findings, name: str, spec: Listener) -> Iterator[Served]:
    """Each certificate that can be served. Without the means to check clients none can: nobody comes in unchecked."""
    if spec.tls is None or not spec.tls.certificates:
        findings.add(("listeners", name), CompileError("an HTTPS listener needs a certificate", "tls"))
        return
    path = ("listeners", name, "tls")
    try:
        clients = client_checks(context, spec.tls.client_validation)
    except Exception as error:
        findings.add((*path, "client_validation"), error)
        return
    for index, certificate in enumerate(spec.tls.certificates):
        try:
            secret = secret_of(context, certificate)
        except Exception as error:
            findings.add((*path, "certificates", index), error)
            continue
        hosts = () if "*" in certificate.hosts else certificate.hosts
        match = FilterChainMatch(server_names=hosts) if hosts else None
        yield Served(f"{name}/{secret}", match, tls_context(context, spec, spec.tls, secret, clients))


def secret_of(context: Context, certificate: ListenerCertificate) -> str:
    """The name under which Envoy fetches it. Raises CompileError when the secret store has no such certificate."""
    if certificate.secret is not None:
        certificate_of(context, certificate.secret)
        return certificate.secret
    if certificate.cert_file is None or certificate.key_file is None:
        raise CompileError("a certificate needs a secret, or cert_file and key_file")
    return names.node_certificate(certificate.cert_file, certificate.key_file)


def tls_context(
    context: Context,
    listener: Listener,
    tls: ListenerTls,
    secret: str,
    clients: Combined | None,
) -> DownstreamTlsContext:
    minimum = max(tls.min_version, context.gateway.floor.tls.min_version)
    common = CommonTlsContext(
        tls_params=TlsParameters(tls_minimum_protocol_version=VERSIONS[minimum], cipher_suites=tls.ciphers),
        tls_certificate_sds_secret_configs=[sds(secret)],
        combined_validation_context=clients,
        alpn_protocols=tls.alpn or (["h2", "http/1.1"] if listener.http2 else ["http/1.1"]),
    )
    required = clients is not None and tls.client_validation is not None and tls.client_validation.mode == "require"
    return DownstreamTlsContext(
        common_tls_context=common,
        require_client_certificate=None if clients is None else boolean(required),
    )


def client_checks(context: Context, spec: ClientValidation | None) -> Combined | None:
    """What a client's certificate must be; None when none is asked for. Raises CompileError for a missing secret."""
    if not checks_clients(spec) or spec is None:
        return None
    return Combined(
        default_validation_context=CertificateValidationContext(
            match_typed_subject_alt_names=[san for name in spec.subject_alt_names for san in san_matchers(name)]
        ),
        validation_context_sds_secret_config=sds(client_authority(context, spec)),
    )


def checks_clients(spec: ClientValidation | None) -> bool:
    return spec is not None and spec.mode != "none"


def client_authority(context: Context, spec: ClientValidation) -> str:
    """The name of the secret with the authorities of clients. Raises CompileError when a part of it is missing."""
    if spec.ca_secret is None:
        raise CompileError("clients are checked against a CA bundle, and none is named", "ca_secret")
    authorities(context, spec.ca_secret)
    if spec.crl_secret is None:
        return spec.ca_secret
    revoked(context, spec.crl_secret)
    return names.authority_with_crl(spec.ca_secret, spec.crl_secret)


def authorities(context: Context, name: str) -> CaBundle:
    found = context.secrets.get(name)
    if not isinstance(found, CaBundle):
        raise CompileError(f"the secret store has no CA bundle {name!r}", "ca_secret", code="GW602")
    try:
        x509.load_pem_x509_certificates(found.pem)
    except ValueError:
        raise CompileError(f"the CA bundle {name!r} cannot be read", "ca_secret", code="GW602") from None
    return found


def revoked(context: Context, name: str) -> RevocationList:
    found = context.secrets.get(name)
    if not isinstance(found, RevocationList):
        raise CompileError(f"the secret store has no revocation list {name!r}", "crl_secret", code="GW602")
    try:
        x509.load_pem_x509_crl(found.pem)
    except ValueError:
        raise CompileError(f"the revocation list {name!r} cannot be read", "crl_secret", code="GW602") from None
    return found


def san_matchers(name: SubjectAltName) -> Iterator[SubjectAltNameMatcher]:
    for kind, san_type in KINDS.items():
        match: NameMatch | None = getattr(name, kind)
        if match is not None:
            yield SubjectAltNameMatcher(san_type=san_type, matcher=string_matcher(match))


def string_matcher(match: NameMatch) -> StringMatcher:
    """Envoy takes the prefix and suffix of an empty text for no condition; the model's check refuses those."""
    if match.exact is not None:
        return StringMatcher(exact=match.exact)
    if match.prefix is not None:
        return StringMatcher(prefix=match.prefix)
    if match.suffix is not None:
        return StringMatcher(suffix=match.suffix)
    return regex(match.regex or "")


def tcp_socket(found: DownstreamTlsContext) -> TransportSocket:
    return TransportSocket(name=SOCKET, typed_config=pack(found))


def quic_socket(found: DownstreamTlsContext) -> TransportSocket:
    """The same certificate over QUIC, which is TLS 1.3 and h3 only."""
    own = CommonTlsContext(
        tls_params=TlsParameters(tls_minimum_protocol_version=TlsParameters.TLSv1_3),
        tls_certificate_sds_secret_configs=found.common_tls_context.tls_certificate_sds_secret_configs,
        alpn_protocols=["h3"],
    )
    quic = QuicDownstreamTransport(downstream_tls_context=DownstreamTlsContext(common_tls_context=own))
    return TransportSocket(name=QUIC_SOCKET, typed_config=pack(quic))


def secrets(context: Context) -> Iterator[EnvoySecret]:
    """The secrets that only listeners have: certificates in the node's files, authorities with a revocation list."""
    found: dict[str, EnvoySecret] = {}
    for listener in context.gateway.listeners.values():
        if listener.tls is None:
            continue
        for certificate in listener.tls.certificates:
            if certificate.cert_file and certificate.key_file:
                secret = node_certificate(certificate.cert_file, certificate.key_file)
                found[secret.name] = secret
        spec = listener.tls.client_validation
        if spec is not None and checks_clients(spec) and spec.crl_secret is not None:
            try:
                name = client_authority(context, spec)
            except CompileError:
                continue  # reported where it is used
            found[name] = authority_with_crl(context, name, spec)
    yield from (found[name] for name in sorted(found))


def node_certificate(cert_file: str, key_file: str) -> EnvoySecret:
    """Envoy reads the files, and again whenever something is moved into their directory."""
    directory = cert_file.rpartition("/")[0]
    watched = WatchedDirectory(path=directory or "/") if directory == key_file.rpartition("/")[0] else None
    pair = TlsCertificate(
        certificate_chain=DataSource(filename=cert_file),
        private_key=DataSource(filename=key_file),
        watched_directory=watched,  # for one directory; of two, Envoy watches each by itself
    )
    return EnvoySecret(name=names.node_certificate(cert_file, key_file), tls_certificate=pair)


def authority_with_crl(context: Context, name: str, spec: ClientValidation) -> EnvoySecret:
    bundle, crl = authorities(context, spec.ca_secret or ""), revoked(context, spec.crl_secret or "")
    trusted = CertificateValidationContext(
        trusted_ca=DataSource(inline_bytes=bundle.pem), crl=DataSource(inline_bytes=crl.pem)
    )
    return EnvoySecret(name=name, validation_context=trusted)
