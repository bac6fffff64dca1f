"""What is about to go wrong with certificates, told before callers notice: dates that run out, names they do not have.

The clock is the caller's: `now` comes in, so the same certificates give the same findings in any process.
"""

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from gateway.model import Gateway
from gateway.problems import Path, Problem
from gateway.secrets import SecretName, references
from xds_server.compiler.settings import CaBundle, Certificate, RevocationList, Secret

SOON: Final = datetime.timedelta(days=30)
"""How long before its end a certificate is told about; for one that lives shorter than 90 days, a third of its life."""


@dataclass(frozen=True, slots=True)
class Dated:
    """Something with a last day. `path`: where the document names it; `what`: what it is, for people."""

    path: Path
    what: str
    begins: datetime.datetime
    ends: datetime.datetime


def certificate_findings(
    gateway: Gateway, secrets: Mapping[str, Secret], now: datetime.datetime
) -> tuple[Problem, ...]:
    """Warnings about the certificates, authorities and revocation lists that the document names and the store has."""
    return (*misnamed(gateway, secrets), *of_dates(dated(gateway, secrets), now))


def dated(gateway: Gateway, secrets: Mapping[str, Secret]) -> tuple[Dated, ...]:
    """Every named secret with dates, by place. What cannot be read is the compiler's to report."""
    return tuple(_dates(references(gateway), secrets))


def of_dates(found: Iterable[Dated], now: datetime.datetime) -> Iterator[Problem]:
    for one in found:
        said = _said(one, now)
        if said:
            help_ = "put a new one into the secret store: it is taken without a restart"
            yield Problem("GW610", one.path, f"{one.what} {said}", help_, "warning")


def misnamed(gateway: Gateway, secrets: Mapping[str, Secret]) -> Iterator[Problem]:
    """Listener certificates that browsers would refuse for one of the hosts that they are written for."""
    for name, listener in gateway.listeners.items():
        for index, spec in enumerate(listener.tls.certificates if listener.tls else ()):
            leaf = _leaf(secrets.get(spec.secret or ""))
            if leaf is None:
                continue
            known = dns_names(leaf)
            for position, host in enumerate(spec.hosts):
                if host != "*" and not any(covers(other, host) for other in known):
                    path = ("listeners", name, "tls", "certificates", index, "hosts", position)
                    names = ", ".join(known) or "no host at all"
                    message = f"the certificate '{spec.secret}' is not for '{host}' but for {names}"
                    yield Problem("GW611", path, message, severity="warning")


def dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names it was issued for; what clients look at, since they no longer look at the common name."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(name.lower() for name in found.get_values_for_type(x509.DNSName))


def covers(name: str, host: str) -> bool:
    """RFC 6125 6.4.3: a wildcard stands for one label. A host `*.a` is covered by the name `*.a` alone."""
    if name == host:
        return True
    return name.startswith("*.") and not host.startswith("*.") and host.partition(".")[2] == name[2:]


def _dates(named: Iterable[tuple[SecretName, Path]], secrets: Mapping[str, Secret]) -> Iterator[Dated]:
    for reference, path in named:
        if "/" in reference.name:  # not an operator's: the authorities that come with Tollhouse
            continue
        try:
            yield from _dates_of(reference.name, secrets.get(reference.name), path)
        except ValueError:
            continue


def _dates_of(name: str, secret: Secret | None, path: Path) -> Iterator[Dated]:
    if isinstance(secret, RevocationList):
        crl = x509.load_pem_x509_crl(secret.pem)
        if crl.next_update_utc is not None:
            yield Dated(path, f"the revocation list '{name}'", crl.last_update_utc, crl.next_update_utc)
    elif isinstance(secret, (Certificate, CaBundle)):
        what = f"the certificate '{name}'" if isinstance(secret, Certificate) else f"an authority of '{name}'"
        pem = secret.chain if isinstance(secret, Certificate) else secret.pem
        for one in x509.load_pem_x509_certificates(pem):
            yield Dated(path, what, one.not_valid_before_utc, one.not_valid_after_utc)


def _leaf(secret: Secret | None) -> x509.Certificate | None:
    if not isinstance(secret, Certificate):
        return None
    try:
        return x509.load_pem_x509_certificates(secret.chain)[0]
    except (ValueError, IndexError):
        return None


def _said(one: Dated, now: datetime.datetime) -> str:
    if now < one.begins:
        return f"is not valid before {_day(one.begins)}"
    if now >= one.ends:
        return f"expired at {_day(one.ends)}"
    if one.ends - now < min(SOON, (one.ends - one.begins) / 3):
        return f"expires at {_day(one.ends)}"
    return ""


def _day(at: datetime.datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC")
