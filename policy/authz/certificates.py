"""The names in a client certificate that Envoy has verified, and which of them the document asks for."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from cryptography import x509

from gateway.alternative_names import fits
from policy.view import CertificateSource

KINDS: Final[dict[str, type[x509.UniformResourceIdentifier] | type[x509.DNSName] | type[x509.RFC822Name]]] = {
    "uri": x509.UniformResourceIdentifier,
    "dns": x509.DNSName,
    "email": x509.RFC822Name,
}
Names = tuple[tuple[str, str], ...]


@lru_cache(maxsize=4096)
def names_of(certificate: str) -> Names:
    """Kind and value of each subject alternative name. `certificate`: PEM, percent-encoded as Envoy sends it."""
    try:
        parsed = x509.load_pem_x509_certificate(unquote(certificate).encode())
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple((kind, value) for kind, of in KINDS.items() for value in names.get_values_for_type(of))
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return ()


def found(names: Names, sources: Iterable[CertificateSource]) -> tuple[CertificateSource, str] | None:
    """The first source one of whose names is in the certificate, with that name."""
    for source in sources:
        for wanted in source.names:
            for kind, value in names:
                if fits(wanted, kind, value):
                    return source, value
    return None
