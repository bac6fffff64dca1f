"""TLS on both sides of Envoy, and the secrets that it fetches over SDS. Keys never stand in a listener or a cluster."""

from collections.abc import Iterator
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    TlsCertificate,
    TlsParameters,
)
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret as EnvoySecret

from gateway.problems import Path
from gateway.secrets import references as named
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError
from xds_server.compiler.findings import Findings
from xds_server.compiler.settings import CaBundle, Certificate
from xds_server.compiler.wire import ads

SOCKET: Final = "envoy.transport_sockets.tls"
VERSIONS: Final = {"1.2": TlsParameters.TLSv1_2, "1.3": TlsParameters.TLSv1_3}


def sds(name: str) -> SdsSecretConfig:
    return SdsSecretConfig(name=name, sds_config=ads())


def secrets(context: Context, findings: Findings) -> Iterator[EnvoySecret]:
    """Every certificate and CA bundle that the document refers to and the store has. HS256 keys never go by SDS."""
    for name, path in references(context):
        try:
            found = envoy_secret(context, name)
        except CompileError:
            continue  # reported where it is used
        except Exception as error:
            findings.add(path, error)
        else:
            yield found


def references(context: Context) -> list[tuple[str, Path]]:
    """Every certificate and CA bundle with a place that names it."""
    places: dict[str, Path] = {}
    for secret, path in named(context.gateway):
        if secret.kind in {"certificate", "ca"}:
            places.setdefault(secret.name, path)
    return sorted(places.items())


def envoy_secret(context: Context, name: str) -> EnvoySecret:
    if isinstance(bundle := context.secrets.get(name), CaBundle):
        trusted = CertificateValidationContext(trusted_ca=DataSource(inline_bytes=bundle.pem))
        return EnvoySecret(name=name, validation_context=trusted)
    found = certificate_of(context, name)
    pair = TlsCertificate(
        certificate_chain=DataSource(inline_bytes=found.chain), private_key=DataSource(inline_bytes=found.key)
    )
    return EnvoySecret(name=name, tls_certificate=pair)


def certificate_of(context: Context, name: str) -> Certificate:
    """Raises CompileError for a missing certificate, and for a key that is not the certificate's."""
    found = context.secrets.get(name)
    if not isinstance(found, Certificate):
        raise CompileError(f"the secret store has no certificate {name!r}", "secret", code="GW602")
    try:
        of_chain = x509.load_pem_x509_certificates(found.chain)[0].public_key()
        of_key = load_pem_private_key(found.key, password=None).public_key()
    except (ValueError, TypeError, IndexError):
        raise CompileError(f"the certificate {name!r} cannot be read", "secret", code="GW602") from None
    der = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if of_chain.public_bytes(*der) != of_key.public_bytes(*der):
        raise CompileError(f"the private key of {name!r} is not its certificate's", "secret", code="GW602")
    return found
