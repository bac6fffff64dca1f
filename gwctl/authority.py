"""The gateway's own certificate authority: who its nodes, operators and servers are.

Names of clients are SPIFFE ids, one to a certificate (X.509-SVID, section 2): `spiffe://DOMAIN/node/ID`. Keys are ECDSA
P-256 in PKCS 8, readable by their owner only.
"""

import datetime
import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Usage = x509.ObjectIdentifier

CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH
LONGEST_COMMON_NAME: Final = 64
CLOCKS_DIFFER: Final = datetime.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, both PEM. `expires`: when it ends to be good."""

    chain: bytes
    key: bytes
    expires: datetime.datetime

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """`NAME.crt` and `NAME.key`, each replaced in one move, as those who watch the directory expect."""
        directory.mkdir(parents=True, exist_ok=True)
        certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
        _replace(key, self.key, 0o600)
        _replace(certificate, self.chain, 0o644)
        return certificate, key


class Authority:
    """Signs. Its files are `ca.crt`, for everybody, and `ca.key`, for nobody else."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate, self._key = certificate, key

    @classmethod
    def open(cls, directory: Path) -> "Authority":
        """Raises OSError, or ValueError for files that are no authority of ours."""
        certificate = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
        key = load_pem_private_key((directory / "ca.key").read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ValueError(f"{directory / 'ca.key'} is not the key of ca.crt")
        return cls(certificate, key)

    def issue(self, names: Sequence[str], usage: Usage, days: int) -> Pair:
        """For `names` (URIs, addresses, hosts), and not beyond the authority's own end."""
        key = ec.generate_private_key(ec.SECP256R1())
        common = names[0].rpartition("/")[2][:LONGEST_COMMON_NAME]
        ends = min(_now() + datetime.timedelta(days=days), self._certificate.not_valid_after_utc)
        certificate = (
            _builder(common, self._certificate.subject, key.public_key(), ends)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _pair(certificate, key)


def create(directory: Path, days: int) -> Pair:
    """A new authority's files in `directory`. Raises FileExistsError: replacing one cuts off all that it has signed."""
    for name in ("ca.crt", "ca.key"):
        if (directory / name).exists():
            raise FileExistsError(f"{directory / name} exists")
    key = ec.generate_private_key(ec.SECP256R1())
    name = "Tollhouse authority"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(name, subject, key.public_key(), _now() + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = _pair(certificate, key)
    made.write(directory, "ca")
    return made


def client_name(domain: str, kind: str, name: str) -> str:
    """The SPIFFE id of a `node` or an `operator`. Raises ValueError for names that cannot stand in one."""
    if not re.fullmatch(r"[a-z0-9._-]{1,255}", domain):
        raise ValueError(f"{domain!r} is not a trust domain: a-z, 0-9, '.', '_' and '-'")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,255}", name) or name in (".", ".."):
        raise ValueError(f"{name!r} cannot stand in a certificate: letters, digits, '.', '_' and '-'")
    return f"spiffe://{domain}/{kind}/{name}"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _builder(
    common_name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, ends: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - CLOCKS_DIFFER)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        chain=certificate.public_bytes(Encoding.PEM),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        expires=certificate.not_valid_after_utc,
    )


def _replace(path: Path, content: bytes, mode: int) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    new.replace(path)
