"""Where requests go: Envoy's clusters and their endpoints."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from gateway.model.base import Model, OneOf, PathText, PortNumber, written_in
from gateway.model.raw import RawCluster
from gateway.scalars import CookieName, Duration, HeaderName, Host, Name, Percent

Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class Endpoint(Model):
    """`priority`: endpoints of a higher number get requests only as far as those below it are unhealthy.

    `zone`: where it stands; endpoints of one zone are one locality of Envoy's.
    """

    address: str
    port: PortNumber
    weight: Annotated[int, Field(ge=1, le=128)] = 1
    zone: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    priority: Annotated[int, Field(ge=0, le=127)] = 0


class ServiceEndpoint(Endpoint):
    """An endpoint of a service, as whoever knows the service tells it; no document has one.

    `state`: `unhealthy` gets no requests, `draining` no new ones while those that it has go on.
    """

    state: Literal["healthy", "unhealthy", "draining"] = "healthy"


class HttpCheck(Model):
    path: PathText
    host: str | None = None
    expected_statuses: tuple[Annotated[str, StringConstraints(pattern=r"^[1-5]\d\d(-[1-5]\d\d)?$")], ...] = ("200",)


class TcpCheck(Model):
    """A connection that opens. `send`: text written to it. `receive`: text that must come back, if only in part."""

    send: Text | None = None
    receive: Text | None = None


class GrpcCheck(Model):
    """The gRPC health checking protocol. `service`: whose health is asked for; without it the whole server's."""

    service: Text | None = None


class HealthCheck(Model):
    """Active health checking, Envoy `config.core.v3.HealthCheck`: exactly one of `http`, `tcp`, `grpc`."""

    http: HttpCheck | None = None
    tcp: TcpCheck | None = None
    grpc: GrpcCheck | None = None
    interval: Duration = 5_000
    timeout: Duration = 1_000
    healthy_threshold: Annotated[int, Field(ge=1, le=100)] = 2
    unhealthy_threshold: Annotated[int, Field(ge=1, le=100)] = 3

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if len(written_in(self) & {"http", "tcp", "grpc"}) != 1:
            raise ValueError("write exactly one of http, tcp, grpc")
        return self


class RetryBudget(Model):
    """`percent`: so many of the requests under way may be retries; and `min_concurrency` retries in any case."""

    percent: Percent = 20.0
    min_concurrency: Annotated[int, Field(ge=0)] = 3


class CircuitBreaker(Model):
    """Envoy `config.cluster.v3.CircuitBreakers` thresholds; when one is reached Envoy answers 503 at once.

    `retry_budget`: how many retries there may be at a time; by default 20% of the requests, and `max_retries` at least.
    """

    max_connections: Annotated[int, Field(ge=1)] = 1024
    max_pending_requests: Annotated[int, Field(ge=0)] = 256
    max_requests: Annotated[int, Field(ge=1)] = 1024
    max_retries: Annotated[int, Field(ge=0)] = 3
    retry_budget: RetryBudget | None = None


class OutlierDetection(Model):
    """Passive health checking, Envoy `config.cluster.v3.OutlierDetection`: an endpoint that fails is ejected a while.

    With every endpoint ejected the circuit is open: Envoy answers 503 without trying (the panic threshold is 0).
    `consecutive_gateway_failure`: 502, 503 and 504 alone. `consecutive_local_origin_failure`: connections that fail;
    they then count as nothing else.
    """

    consecutive_5xx: Annotated[int, Field(ge=1)] = 5
    consecutive_gateway_failure: Annotated[int, Field(ge=1)] | None = None
    consecutive_local_origin_failure: Annotated[int, Field(ge=1)] | None = None
    interval: Duration = 10_000
    base_ejection_time: Duration = 30_000
    max_ejection_percent: Percent = 100.0


class Cookie(Model):
    """A cookie that keeps a caller at an endpoint. `ttl`: how long browsers keep it, 0s as long as they run.

    Of `hash_on`, Envoy sets the cookie only where a `ttl` is written; else it reads what the upstream has set.
    """

    name: CookieName
    ttl: Duration | None = None
    path: PathText = "/"


class HashOn(OneOf):
    """What chooses the endpoint, Envoy `RouteAction.HashPolicy`. A request without it goes to any endpoint."""

    header: HeaderName | None = None
    cookie: Cookie | None = None
    ip: Literal[True] | None = None
    query: Text | None = None


class SessionPersistence(OneOf):
    """Keeps a session at the endpoint of its first answer, which a cookie or a response header then carries.

    A client sends it back; an endpoint that is gone or unhealthy is replaced by another one.
    """

    cookie: Cookie | None = None
    header: HeaderName | None = None


class SlowStart(Model):
    """An endpoint that came up gets more and more requests over `window`; above 1, `aggression` gives them sooner."""

    window: Duration
    aggression: Annotated[float, Field(gt=0, le=100)] = 1.0


class LoadBalancing(Model):
    """`hash_on`: what `ring_hash` and `maglev` choose by. `slow_start`: for `round_robin` and `least_request`.

    `zone_aware`: an Envoy that knows its zone stays in it, as long as two endpoints there are healthy.
    `panic_threshold`: with fewer healthy endpoints Envoy tries them all, healthy or not; 0% is never.
    """

    policy: Literal["round_robin", "least_request", "random", "ring_hash", "maglev"] = "least_request"
    hash_on: HashOn | None = None
    slow_start: SlowStart | None = None
    zone_aware: bool = False
    panic_threshold: Percent = 0.0

    @property
    def hashes(self) -> bool:
        return self.policy in ("ring_hash", "maglev")


class UpstreamConnection(Model):
    """Connections to an endpoint. `max_duration`, `max_requests`: after which one is closed and another one opened."""

    idle_timeout: Duration = 60_000
    max_duration: Duration | None = None
    max_requests: Annotated[int, Field(ge=1, le=2**32 - 1)] | None = None


class UpstreamTls(Model):
    """TLS to the endpoints, whose certificate must be of an authority and name one of `subject_alt_names`.

    `sni`: the name that is asked for. `ca_secret`: a CA bundle of the secret store. `ca`: `system` for the authorities
    that browsers trust. `subject_alt_names`: by default the `sni`. `client_secret`: the certificate shown to them.
    """

    sni: Host
    ca_secret: Name | None = None
    ca: Literal["system"] | None = None
    subject_alt_names: tuple[Host, ...] = ()
    client_secret: Name | None = None
    min_version: Literal["1.2", "1.3"] = "1.2"
    alpn: tuple[Literal["h2", "http/1.1"], ...] = ()

    @model_validator(mode="after")
    def _one_authority(self) -> Self:
        if len(written_in(self) & {"ca_secret", "ca"}) != 1:
            raise ValueError("write exactly one of ca_secret, ca")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names, one of which the server's certificate must have."""
        return self.subject_alt_names or (self.sni,)


class UpstreamBase(Model):
    protocol: Literal["http", "http2", "grpc"] = "http"
    connect_timeout: Duration = 2_000
    connection: UpstreamConnection = UpstreamConnection()
    tls: UpstreamTls | None = None
    load_balancing: LoadBalancing = LoadBalancing()
    health_check: HealthCheck | None = None
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    outlier_detection: OutlierDetection | Literal["none"] = OutlierDetection()
    envoy: RawCluster | None = None


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


class EdsUpstream(UpstreamBase):
    """`service`: whose endpoints; the control plane is told them apart from the document, and Envoy by EDS."""

    type: Literal["eds"]
    service: Name


Upstream = Annotated[StaticUpstream | DnsUpstream | EdsUpstream, Field(discriminator="type")]
