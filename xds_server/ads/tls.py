"""The xDS server's TLS: certificates are asked for and shown, and files are read again when they change.

gRPC offers TLS 1.3, and 1.2 with forward secrecy and AES-GCM only (BoringSSL); the variable
GRPC_SSL_CIPHER_SUITES is how it lets that be narrowed. It asks for the configuration before each handshake.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from xds_server.ads.identity import TRUST_DOMAIN

log = structlog.get_logger(__name__)

Stamp = tuple[tuple[int, int, int], ...]

PUBLIC: Final = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files: the server's chain, its key, the authorities that clients' certificates must be from.

    Several authorities in `client_ca` are how one is replaced by another without a refused client.
    `trust_domain` is what stands in the names of clients, `spiffe://TRUST_DOMAIN/node/ID`.
    """

    certificate: Path
    key: Path
    client_ca: Path
    trust_domain: str = TRUST_DOMAIN

    def credentials(self, expires: Callable[[float], None]) -> Any:
        """grpc.ServerCredentials that follow the files. Raises OSError, or ValueError for files that do not fit.

        `expires` is told when each certificate that comes into use runs out (Unix time).
        """
        following = Following(self, expires)
        return grpc.dynamic_ssl_server_credentials(following.first, following, require_client_authentication=True)


class Following:
    """Called before each handshake: the new configuration if the files changed, else None.

    Files that cannot be used, such as a new certificate whose key is not written yet, leave the last good ones in use.
    """

    def __init__(self, files: ServerTls, expires: Callable[[float], None]) -> None:
        self._files, self._expires = files, expires
        self._stamp = _stamp(files)
        self.first = self._read()

    def __call__(self) -> Any:
        try:
            stamp = _stamp(self._files)  # taken before reading: a change in between shows at the next handshake
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            return self._read()
        except (OSError, ValueError) as error:
            log.warning("xds certificates not replaced", reason=str(error), effect="the last good ones stay in use")
            return None

    def _read(self) -> Any:
        certificate, configuration = _read(self._files)
        ends = certificate.not_valid_after_utc
        self._expires(ends.timestamp())
        log.info("xds certificate read", file=str(self._files.certificate), expires=ends.isoformat())
        return configuration


def _stamp(files: ServerTls) -> Stamp:
    stats = (path.stat() for path in (files.certificate, files.key, files.client_ca))
    return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)


def _read(files: ServerTls) -> tuple[x509.Certificate, Any]:
    chain, key, authorities = (path.read_bytes() for path in (files.certificate, files.key, files.client_ca))
    certificates = _certificates(files.certificate, chain)
    _certificates(files.client_ca, authorities)
    if certificates[0].public_key().public_bytes(*PUBLIC) != _public(files.key, key):
        raise ValueError(f"{files.key} is not the key of {files.certificate}")
    return certificates[0], grpc.ssl_server_certificate_configuration([(key, chain)], authorities)


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError(f"{path} holds no certificate in PEM") from None


def _public(path: Path, pem: bytes) -> bytes:
    try:
        return load_pem_private_key(pem, password=None).public_key().public_bytes(*PUBLIC)
    except (ValueError, TypeError):  # TypeError: encrypted
        raise ValueError(f"{path} holds no key in PEM, or one with a passphrase") from None
