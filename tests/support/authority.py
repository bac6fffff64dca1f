"""A certificate authority for tests: certificates for servers and clients, and what it has revoked."""

import datetime
import ipaddress
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC)


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def general(text: str | x509.GeneralName) -> x509.GeneralName:
    """`spiffe://a` is a URI, `a@b` an e-mail address, `127.0.0.1` an address, all else a host."""
    if isinstance(text, x509.GeneralName):
        return text
    if "://" in text:
        return x509.UniformResourceIdentifier(text)
    if "@" in text:
        return x509.RFC822Name(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


class Authority:
    """`pem`: its own certificate."""

    def __init__(self, name: str = "Authority") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = named(name)
        builder = self._builder(self.name, NOW + datetime.timedelta(days=365), self.key)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = (
            builder.add_extension(usage, critical=True).sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)
        )

    def issue(self, *names: str | x509.GeneralName, ends: datetime.datetime | None = None) -> tuple[bytes, bytes]:
        """A certificate for these names and its key, both PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(named(str(names[0])), ends or NOW + datetime.timedelta(days=300), key)
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(general, names))), critical=False)
        certificate = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        chain = certificate.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def revoking(self, chains: Iterable[bytes] = ()) -> bytes:
        """The list of revoked certificates, PEM."""
        builder = x509.CertificateRevocationListBuilder(self.name, NOW, NOW + datetime.timedelta(days=30))
        for chain in chains:
            serial = x509.load_pem_x509_certificate(chain).serial_number
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _builder(
        self, subject: x509.Name, ends: datetime.datetime, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=1))
            .not_valid_after(ends)
        )


def written(directory: Path, name: str, pair: tuple[bytes, bytes]) -> tuple[Path, Path]:
    """The pair as `NAME.crt` and `NAME.key`."""
    paths = directory / f"{name}.crt", directory / f"{name}.key"
    for path, content in zip(paths, pair, strict=True):
        path.write_bytes(content)
    return paths
