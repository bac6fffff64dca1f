"""The decision services' own certificate, and whose clients may ask them."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. With `client_ca` only who has a certificate of one of those authorities is let in."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Raises OSError (ssl.SSLError is one) for files that are not there or not what they should be."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # HTTP/2 forbids the others (RFC 9113, 9.2.2)
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(files.certificate, files.key)
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def credentials(files: TlsFiles) -> grpc.ServerCredentials:
    pair = (files.key.read_bytes(), files.certificate.read_bytes())
    authorities = files.client_ca.read_bytes() if files.client_ca else None
    return grpc.ssl_server_credentials([pair], authorities, require_client_auth=authorities is not None)
