"""Where requests come in."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from gateway.model.base import Model, OneOf, PortNumber, written_in
from gateway.model.raw import RawListener
from gateway.model.rollout import NodeSelector
from gateway.scalars import Duration, Host, Name, Percent, Size

NodePath = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
"""A file on the node that Envoy runs on."""

NameText = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class ListenerRedirect(Model):
    """Every request of the listener is answered with a redirect."""

    scheme: Literal["https"] = "https"
    port: PortNumber | None = None
    status: Literal[301, 302, 303, 307, 308] = 301


class AccessLog(Model):
    """JSON lines on the node's standard output. `sample`: the share of requests logged."""

    format: Literal["json"] = "json"
    sample: Percent = 100.0


class ListenerCertificate(Model):
    """`secret`: a certificate and key in the secret store, served over SDS. Or two files that stay on the node."""

    hosts: tuple[Host, ...] = ()
    secret: Name | None = None
    cert_file: NodePath | None = None
    key_file: NodePath | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if written_in(self) - {"hosts"} not in ({"secret"}, {"cert_file", "key_file"}):
            raise ValueError("write either secret, or cert_file and key_file")
        return self


class NameMatch(OneOf):
    """A name in a certificate: exactly one of the comparisons."""

    exact: NameText | None = None
    prefix: NameText | None = None
    suffix: NameText | None = None
    regex: NameText | None = None


class SubjectAltName(OneOf):
    """A subject alternative name of this kind that must be in a client's certificate."""

    uri: NameMatch | None = None
    dns: NameMatch | None = None
    email: NameMatch | None = None


class ClientValidation(Model):
    """`optional`: who sends a certificate must send a good one. `crl_secret`: the certificates that are revoked.

    `subject_alt_names`: one of them must be in the certificate; empty for any that `ca_secret` vouches for.
    """

    mode: Literal["none", "optional", "require"] = "require"
    ca_secret: Name | None = None
    crl_secret: Name | None = None
    subject_alt_names: tuple[SubjectAltName, ...] = ()


class ListenerTls(Model):
    """`ciphers`: those of TLS 1.2, by BoringSSL's names; TLS 1.3 has no choice of them. `alpn`: empty for `http2`'s."""

    min_version: Literal["1.2", "1.3"] = "1.2"
    ciphers: tuple[str, ...] = ()
    alpn: tuple[Literal["h2", "http/1.1"], ...] = ()
    certificates: tuple[ListenerCertificate, ...] = Field(min_length=1)
    client_validation: ClientValidation | None = None


class ListenerTimeouts(Model):
    """How long a caller may take: for the headers, for the whole request, between requests, and within a stream."""

    headers: Duration | None = None
    request: Duration | None = None
    idle: Duration | None = None
    stream_idle: Duration | None = None


class ListenerLimits(Model):
    """How large a request's headers may be together, and how many."""

    header_bytes: Size | None = None
    headers: Annotated[int, Field(ge=1, le=1000)] | None = None


class Hsts(Model):
    """Strict-Transport-Security (RFC 6797): browsers come back by HTTPS only, for `max_age`."""

    max_age: Duration
    include_subdomains: bool = False
    preload: bool = False


class Listener(Model):
    port: PortNumber
    address: str | None = None  # the control plane's default (loopback unless told otherwise)
    protocol: Literal["HTTP", "HTTPS"] = "HTTP"
    nodes: NodeSelector | None = None
    http2: bool = True
    http3: bool = False
    tls: ListenerTls | None = None
    hsts: Hsts | None = None
    redirect: ListenerRedirect | None = None
    trusted_hops: Annotated[int, Field(ge=0, le=16)] = 0
    strict_paths: bool = True
    escaped_slashes: Literal["reject", "redirect"] = "reject"
    timeouts: ListenerTimeouts = ListenerTimeouts()
    limits: ListenerLimits = ListenerLimits()
    access_log: AccessLog | Literal["none"] = AccessLog()
    envoy: RawListener | None = None
    route_table: Literal["tree", "list"] = "tree"
    route_scopes: Literal["none", "host", "path", "host_path"] = "none"

    @property
    def scoping(self) -> Literal["none", "host", "path", "host_path"]:
        """By what this listener's routes are told apart; a listener that only redirects has one route."""
        return "none" if self.redirect is not None else self.route_scopes
