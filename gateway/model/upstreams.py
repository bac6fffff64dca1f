"""Where requests go: Envoy's clusters and their endpoints."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from gateway.model.base import Model, PathText, PortNumber
from gateway.scalars import Duration, Host, Name, Percent


class Endpoint(Model):
    address: str
    port: PortNumber
    weight: Annotated[int, Field(ge=1, le=128)] = 1
    zone: str | None = None


class HttpCheck(Model):
    path: PathText
    host: str | None = None
    expected_statuses: tuple[Annotated[str, StringConstraints(pattern=r"^[1-5]\d\d(-[1-5]\d\d)?$")], ...] = ("200",)


class HealthCheck(Model):
    """Active health checking, Envoy `config.core.v3.HealthCheck`."""

    http: HttpCheck
    interval: Duration = 5_000
    timeout: Duration = 1_000
    healthy_threshold: Annotated[int, Field(ge=1, le=100)] = 2
    unhealthy_threshold: Annotated[int, Field(ge=1, le=100)] = 3


class CircuitBreaker(Model):
    """Envoy `config.cluster.v3.CircuitBreakers` thresholds; when one is reached Envoy answers 503 at once."""

    max_connections: Annotated[int, Field(ge=1)] = 1024
    max_pending_requests: Annotated[int, Field(ge=0)] = 256
    max_requests: Annotated[int, Field(ge=1)] = 1024
    max_retries: Annotated[int, Field(ge=0)] = 3


class OutlierDetection(Model):
    """Passive health checking, Envoy `config.cluster.v3.OutlierDetection`: an endpoint that fails is ejected a while.

    With every endpoint ejected the circuit is open: Envoy answers 503 without trying (the panic threshold is 0).
    """

    consecutive_5xx: Annotated[int, Field(ge=1)] = 5
    interval: Duration = 10_000
    base_ejection_time: Duration = 30_000
    max_ejection_percent: Percent = 100.0


class LoadBalancing(Model):
    policy: Literal["round_robin", "least_request", "random"] = "least_request"


class UpstreamTls(Model):
    """`ca_secret`: the name of a CA bundle in the secret store, served over SDS. The server's name is verified."""

    sni: Host
    ca_secret: Name
    alpn: tuple[Literal["h2", "http/1.1"], ...] = ()


class UpstreamBase(Model):
    protocol: Literal["http", "http2", "grpc"] = "http"
    connect_timeout: Duration = 2_000
    tls: UpstreamTls | None = None
    load_balancing: LoadBalancing = LoadBalancing()
    health_check: HealthCheck | None = None
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    outlier_detection: OutlierDetection | Literal["none"] = OutlierDetection()


class StaticUpstream(UpstreamBase):
    type: Literal["static"]
    endpoints: tuple[Endpoint, ...] = Field(min_length=1)


class Dns(Model):
    refresh: Duration = 30_000
    family: Literal["auto", "v4_only", "v6_only", "v4_preferred", "all"] = "v4_preferred"


class DnsUpstream(UpstreamBase):
    type: Literal["dns"]
    host: str
    port: PortNumber
    dns: Dns = Dns()


Upstream = Annotated[StaticUpstream | DnsUpstream, Field(discriminator="type")]
