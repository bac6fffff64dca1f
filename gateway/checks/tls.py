"""TLS of listeners: ciphers that Envoy has, protocols that go together, and clients that can be checked."""

from collections.abc import Iterator
from typing import Final

from gateway.checks.patterns import regex_problems
from gateway.model import ClientValidation, Listener, ListenerCertificate, ListenerTls
from gateway.problems import Path, Problem
from gateway.words import did_you_mean

CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
)
"""The suites of TLS 1.2 that Envoy's BoringSSL has, without 3DES, and without those of pre-shared keys."""


def problems(listener: Listener, tls: ListenerTls, path: Path) -> Iterator[Problem]:
    yield from _ciphers(tls, (*path, "ciphers"))
    yield from _alpn(listener, tls, (*path, "alpn"))
    for index, certificate in enumerate(tls.certificates):
        yield from _files(certificate, (*path, "certificates", index))
    if tls.client_validation is not None:
        yield from _clients(listener, tls.client_validation, (*path, "client_validation"))


def _ciphers(tls: ListenerTls, path: Path) -> Iterator[Problem]:
    if tls.ciphers and tls.min_version == "1.3":
        yield Problem("GW392", path, "TLS 1.3 leaves no choice of ciphers", "remove it, or set min_version to 1.2")
    for index, cipher in enumerate(tls.ciphers):
        if cipher not in CIPHERS:
            message = f"'{cipher}' is not a cipher of TLS 1.2 that Envoy takes"
            yield Problem("GW391", (*path, index), message, _other_than(cipher))


def _other_than(cipher: str) -> str:
    if cipher.startswith("TLS_"):
        return "leave it out: those of TLS 1.3 are always there"
    if cipher.upper() in CIPHERS:
        return f"write {cipher.upper()}"
    return did_you_mean(cipher.upper(), CIPHERS) or f"such as {CIPHERS[0]}"


def _alpn(listener: Listener, tls: ListenerTls, path: Path) -> Iterator[Problem]:
    if "h2" in tls.alpn and not listener.http2:
        yield Problem("GW393", path, "h2 is offered, and http2 is off", "remove h2, or `http2: false`")
    if len(set(tls.alpn)) < len(tls.alpn):
        yield Problem("GW393", path, "a protocol is offered twice", "name each once, the preferred first")


def _files(certificate: ListenerCertificate, path: Path) -> Iterator[Problem]:
    for field, example in (("cert_file", "/etc/tls/site.crt"), ("key_file", "/etc/tls/site.key")):
        file: str | None = getattr(certificate, field)
        if file is not None and (not file.startswith("/") or file.endswith("/") or "\0" in file):
            message = f"'{file}' does not say which file: what it is relative to differs from node to node"
            yield Problem("GW399", (*path, field), message, f"write the whole path, such as {example}")


def _clients(listener: Listener, spec: ClientValidation, path: Path) -> Iterator[Problem]:
    if spec.mode == "none":
        return
    if spec.ca_secret is None:
        message = "a client's certificate proves nothing without an authority to check it against"
        yield Problem("GW390", path, message, "name a CA bundle under ca_secret")
    if listener.http3:
        message = "Envoy does not ask for client certificates over HTTP/3: there nobody would be checked"
        yield Problem("GW396", path, message, "remove http3, or use a listener of its own")
    for index, name in enumerate(spec.subject_alt_names):
        for kind in ("uri", "dns", "email"):
            match = getattr(name, kind)
            if match is not None and match.regex is not None:
                yield from regex_problems(match.regex, (*path, "subject_alt_names", index, kind, "regex"))
