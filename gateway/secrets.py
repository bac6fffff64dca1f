"""Which secrets a document refers to, and as what. Their values are in the secret store and never in a document."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from gateway.jwks import keyset_name
from gateway.model import Gateway, Jwks, ListenerTls, UpstreamTls
from gateway.problems import Path

SYSTEM_CA: Final = "tollhouse/system-ca"
"""The bundle of the authorities that browsers trust, which every secret store has; no operator's name holds a `/`."""

Kind = Literal["hs256", "certificate", "ca", "crl", "jwks", "users", "client_secret"]


@dataclass(frozen=True, slots=True, order=True)
class SecretName:
    """One secret: `hs256` is a raw key, `certificate` a chain with its key, `ca` a bundle of certificates.

    `crl`: what an authority has revoked.
    """

    name: str
    kind: Kind


def referenced(gateway: Gateway) -> frozenset[SecretName]:
    """Every secret that the document names, each once."""
    return frozenset(secret for secret, _ in references(gateway))


def references(gateway: Gateway) -> Iterator[tuple[SecretName, Path]]:
    """Every reference with its place in the document."""
    for name, listener in gateway.listeners.items():
        if listener.tls is not None:
            yield from _of_listener(listener.tls, ("listeners", name, "tls"))
    for name, upstream in gateway.upstreams.items():
        if upstream.tls is not None:
            yield from _of_upstream(upstream.tls, ("upstreams", name, "tls"))
    for name, basic in gateway.basic_auth.items():
        yield SecretName(basic.users_secret, "users"), ("basic_auth", name, "users_secret")
    for name, login in gateway.oidc.items():
        yield SecretName(login.client_secret.secret, "client_secret"), ("oidc", name, "client_secret", "secret")
        if login.token_address.tls:
            yield SecretName(SYSTEM_CA, "ca"), ("oidc", name, "token_endpoint")
    for name, provider in gateway.jwt_providers.items():
        yield from _of_provider(provider.jwks, ("jwt_providers", name, "jwks"))


def authority(tls: UpstreamTls) -> str:
    """The name of the CA bundle that an upstream's certificate must come from."""
    return tls.ca_secret or SYSTEM_CA


def _of_provider(jwks: Jwks, path: Path) -> Iterator[tuple[SecretName, Path]]:
    if jwks.uri is not None:
        yield SecretName(keyset_name(jwks.uri), "jwks"), (*path, "uri")
    if jwks.hs256 is not None:
        yield SecretName(jwks.hs256.secret, "hs256"), (*path, "hs256", "secret")


def _of_upstream(tls: UpstreamTls, path: Path) -> Iterator[tuple[SecretName, Path]]:
    yield SecretName(authority(tls), "ca"), (*path, "ca_secret" if tls.ca_secret else "ca")
    if tls.client_secret is not None:
        yield SecretName(tls.client_secret, "certificate"), (*path, "client_secret")


def _of_listener(tls: ListenerTls, path: Path) -> Iterator[tuple[SecretName, Path]]:
    for index, certificate in enumerate(tls.certificates):
        if certificate.secret is not None:
            yield SecretName(certificate.secret, "certificate"), (*path, "certificates", index, "secret")
    clients = tls.client_validation
    if clients is None or clients.mode == "none":
        return
    if clients.ca_secret is not None:
        yield SecretName(clients.ca_secret, "ca"), (*path, "client_validation", "ca_secret")
    if clients.crl_secret is not None:
        yield SecretName(clients.crl_secret, "crl"), (*path, "client_validation", "crl_secret")
