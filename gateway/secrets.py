"""Which secrets a document refers to, and as what. Their values are in the secret store and never in a document."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gateway.model import Gateway
from gateway.problems import Path

Kind = Literal["hs256", "certificate", "ca"]


@dataclass(frozen=True, slots=True, order=True)
class SecretName:
    """One secret: `hs256` is a raw key, `certificate` a chain with its key, `ca` a bundle of certificates."""

    name: str
    kind: Kind


def referenced(gateway: Gateway) -> frozenset[SecretName]:
    """Every secret that the document names, each once."""
    return frozenset(secret for secret, _ in references(gateway))


def references(gateway: Gateway) -> Iterator[tuple[SecretName, Path]]:
    """Every reference with its place in the document."""
    for name, listener in gateway.listeners.items():
        for index, certificate in enumerate(listener.tls.certificates if listener.tls else ()):
            path = ("listeners", name, "tls", "certificates", index, "secret")
            yield SecretName(certificate.secret, "certificate"), path
    for name, upstream in gateway.upstreams.items():
        if upstream.tls is not None:
            yield SecretName(upstream.tls.ca_secret, "ca"), ("upstreams", name, "tls", "ca_secret")
    for name, provider in gateway.jwt_providers.items():
        if provider.jwks.hs256 is not None:
            yield SecretName(provider.jwks.hs256.secret, "hs256"), ("jwt_providers", name, "jwks", "hs256", "secret")
