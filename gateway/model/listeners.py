"""Where requests come in."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.model.base import Model, PortNumber
from gateway.scalars import Host, Name, Percent


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
    """`secret`: the name of a certificate and key in the secret store, served over SDS."""

    hosts: tuple[Host, ...] = ()
    secret: Name


class ListenerTls(Model):
    min_version: Literal["1.2", "1.3"] = "1.2"
    certificates: tuple[ListenerCertificate, ...] = Field(min_length=1)


class Listener(Model):
    port: PortNumber
    address: str | None = None  # the control plane's default (loopback unless told otherwise)
    protocol: Literal["HTTP", "HTTPS"] = "HTTP"
    http2: bool = True
    tls: ListenerTls | None = None
    redirect: ListenerRedirect | None = None
    trusted_hops: Annotated[int, Field(ge=0, le=16)] = 0
    strict_paths: bool = True
    access_log: AccessLog | Literal["none"] = AccessLog()
