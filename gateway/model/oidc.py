"""Logins of people in browsers (OpenID Connect, authorization code flow)."""

import ipaddress
import re
from typing import Annotated, Final, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from gateway.model.base import Model
from gateway.model.callers import SecretRef
from gateway.scalars import Name

_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")


def _endpoint(url: str) -> str:
    """An absolute URL without userinfo or fragment; plain http only where the network is the machine itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("https", "http") or not _HOST.fullmatch(host) or parts.username is not None:
        raise ValueError("write a URL such as https://id.example.com/token")
    if "#" in url or not url.isascii() or not url.isprintable() or " " in url or port == 0:
        raise ValueError("write a URL such as https://id.example.com/token")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError("write https: what is said there is secret")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Endpoint = Annotated[str, StringConstraints(max_length=2048), AfterValidator(_endpoint)]
OwnPath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._~/-]+$", max_length=256)]
ScopeWord = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5B\x5D-\x7E]+$", max_length=128)]


class Address(NamedTuple):
    host: str
    port: int
    tls: bool


class Oidc(Model):
    """A login at an issuer, whose ID tokens `jwt_provider` verifies.

    `redirect_path` is where the issuer sends the browser back to, `logout_path` what ends the session. Both are paths
    of a route that uses the login.
    """

    jwt_provider: Name
    authorization_endpoint: Endpoint
    token_endpoint: Endpoint
    client_id: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    client_secret: SecretRef
    redirect_path: OwnPath = "/oauth2/callback"
    logout_path: OwnPath = "/oauth2/logout"
    scopes: tuple[ScopeWord, ...] = Field(default=("openid",), min_length=1)

    @model_validator(mode="after")
    def _asks_for_a_token(self) -> Self:
        if "openid" not in self.scopes:
            raise ValueError("write openid among the scopes: without it there is no ID token")
        return self

    @property
    def token_address(self) -> Address:
        """Host and port of the token endpoint, and whether TLS is spoken there."""
        parts = urlsplit(self.token_endpoint)
        tls = parts.scheme == "https"
        return Address(parts.hostname or "", parts.port or (443 if tls else 80), tls)
