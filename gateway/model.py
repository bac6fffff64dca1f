"""The validated model of a gateway: what `routes.yaml` means once its types are known.

Decoding gives types only (unknown keys, wrong shapes, missing fields); whether the parts fit together is
`gateway.check`'s business. All values are frozen. Words are Gateway API's where it has them, then Envoy's, then Envoy
Gateway's.
"""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from gateway.scalars import Duration, HeaderName, HeaderValue, Host, Method, Name, Percent, RateField

PathText = Annotated[str, StringConstraints(pattern=r"^/[^?#\s\x00-\x1f\x7f]*$", max_length=1024)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
Status = Annotated[int, Field(ge=200, le=599)]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=False)


def written_in(model: Model) -> set[str]:
    """The fields that have a value of their own: an explicit null is none."""
    return {name for name in model.model_fields_set if getattr(model, name) is not None}


class OneOf(Model):
    """A mapping of which exactly one key must be written (`path: {exact: /a}`)."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        written = self._alternatives() & written_in(self)
        if len(written) != 1:
            names = ", ".join(sorted(self._alternatives()))
            raise ValueError(f"write exactly one of {names}" + (f", not {len(written)}" if written else ""))
        return self

    @classmethod
    def _alternatives(cls) -> frozenset[str]:
        return frozenset(cls.model_fields)


# ---------------------------------------------------------------------------------------------------------- listeners
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


# ---------------------------------------------------------------------------------------------------------- upstreams
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


# ---------------------------------------------------------------------------------------------------- who is calling
class HeaderSource(Model):
    name: HeaderName
    prefix: str = ""


class JwtFrom(Model):
    headers: tuple[HeaderSource, ...] = ()
    cookies: tuple[str, ...] = ()


class SecretRef(Model):
    """A value that is never in the document: `{secret: name}` in the control plane's secret store."""

    secret: Name


class Jwks(OneOf):
    """Where the verification keys come from: `inline` (a JSON Web Key Set, RFC 7517, public keys only) or `hs256`."""

    inline: str | None = None
    hs256: SecretRef | None = None


class JwtProvider(Model):
    issuer: Annotated[str, StringConstraints(min_length=1)]
    audiences: tuple[str, ...] = Field(min_length=1)  # an unset list would accept tokens meant for anybody
    jwks: Jwks
    from_: JwtFrom = Field(
        default=JwtFrom(headers=(HeaderSource(name="authorization", prefix="Bearer "),)), alias="from"
    )
    clock_skew: Duration = 10_000
    max_lifetime: Duration = 86_400_000
    claims_to_headers: dict[str, HeaderName] = {}
    tier_claim: str | None = None
    scope_claim: str = "scope"


class KeyFrom(Model):
    headers: tuple[HeaderName, ...] = Field(min_length=1)


class ApiKeys(Model):
    """A way to present API keys. The keys live in the database, hashed; all sources share them."""

    from_: KeyFrom = Field(default=KeyFrom(headers=("x-api-key",)), alias="from")
    forward_client_id: HeaderName | None = None
    strip: bool = True


# ------------------------------------------------------------------------------------------------------ tiers, limits
Per = Annotated[str, StringConstraints(pattern=r"^(client|ip|route|claim:[A-Za-z0-9_.-]{1,64})$")]


class RateLimit(Model):
    """`limit` requests for each distinct value of `per`. `shadow`: counted and reported, never enforced."""

    limit: RateField
    per: Per | tuple[Per, ...] = "client"
    name: Name | None = None
    cost: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    shadow: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.per,) if isinstance(self.per, str) else self.per


class Tier(Model):
    rate_limits: tuple[RateLimit, ...] = ()
    unlimited: bool = False

    @model_validator(mode="after")
    def _limits_or_unlimited(self) -> Self:
        if self.unlimited == bool(self.rate_limits):
            raise ValueError("write either rate_limits or `unlimited: true`")
        return self


class RateLimitDefaults(Model):
    """`on_error`: what happens to requests while the rate limit service or its store cannot be reached."""

    on_error: Literal["allow", "deny"] = "allow"
    headers: tuple[Literal["x-ratelimit", "draft-ietf"], ...] = ("x-ratelimit",)


# ---------------------------------------------------------------------------------------------- policies of a route
class AnyOf(Model):
    any_of: tuple[Name, ...] = Field(min_length=1)


Authentication = Literal["none"] | AnyOf


class ClaimMatch(OneOf):
    """A claim equals `exact`, is one `in` the list, or (for a list claim) contains such a value."""

    exact: str | bool | int | None = None
    in_: tuple[str, ...] | None = Field(default=None, alias="in", min_length=1)


class AuthorizationRule(Model):
    """Matches when every condition written matches: all `scopes`, all `claims`, one of `tiers`, `methods`, `cidrs`."""

    name: Name
    action: Literal["allow", "deny"]
    scopes: tuple[str, ...] = ()
    claims: dict[str, ClaimMatch] = {}
    tiers: tuple[Name, ...] = ()
    methods: tuple[Method, ...] = ()
    cidrs: tuple[str, ...] = ()


class Authorization(Model):
    """Rules in order, the first that matches decides, else `default_action`."""

    default_action: Literal["allow", "deny"] = "deny"
    rules: tuple[AuthorizationRule, ...] = ()


class Timeouts(Model):
    request: Duration | None = None  # the whole request, Envoy RouteAction.timeout; past it the caller gets 504
    idle: Duration | None = None  # no byte in either direction, Envoy RouteAction.idle_timeout


class Backoff(Model):
    base: Duration = 25
    max: Duration = 250


class Retry(Model):
    attempts: Annotated[int, Field(ge=1, le=10)] = 2
    codes: tuple[Annotated[int, Field(ge=500, le=599)], ...] = ()
    conditions: tuple[Literal["connect_failure", "reset", "refused_stream", "gateway_error"], ...] = (
        "connect_failure",
        "refused_stream",
    )
    backoff: Backoff = Backoff()
    per_try_timeout: Duration | None = None


class Cors(Model):
    """The Fetch standard's CORS protocol. An origin is exact (`https://app.example.com`), or `https://*.example.com`."""

    allow_origins: tuple[str, ...] = Field(min_length=1)
    allow_methods: tuple[Method, ...] = ("GET", "HEAD", "POST")
    allow_headers: tuple[HeaderName, ...] = ()
    expose_headers: tuple[HeaderName, ...] = ()
    max_age: Duration = 3_600_000
    allow_credentials: bool = False


class HeaderEdits(Model):
    set: dict[HeaderName, HeaderValue] = {}
    add: dict[HeaderName, HeaderValue] = {}
    remove: tuple[HeaderName, ...] = ()


class Policies(Model):
    """What `defaults`, a module and a route may all say; the nearest one wins, whole field by whole field."""

    timeouts: Timeouts | None = None
    retry: Literal["none"] | Retry | None = None
    cors: Literal["none"] | Cors | None = None
    request_headers: HeaderEdits | None = None
    response_headers: HeaderEdits | None = None


class Defaults(Policies):
    pass


# ----------------------------------------------------------------------------------------------------------- matching
class PathMatch(OneOf):
    """`prefix` takes whole segments; `template` is Envoy's uri_template (`{id}` one segment, `{rest=**}` the rest)."""

    exact: PathText | None = None
    prefix: PathText | None = None
    template: PathText | None = None
    regex: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None


class ValueMatch(Model):
    """A header or query parameter: exactly one of the comparisons. `optional`: an absent value matches too."""

    exact: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    contains: str | None = None
    regex: str | None = None
    present: bool | None = None
    optional: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(written_in(self) - {"optional"}) != 1:
            raise ValueError("write exactly one of exact, prefix, suffix, contains, regex, present")
        return self


class Match(Model):
    path: PathMatch
    methods: tuple[Method, ...] = ()
    headers: dict[HeaderName, ValueMatch] = {}
    query: dict[str, ValueMatch] = {}


class Backend(Model):
    upstream: Name
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = 1


class Respond(Model):
    status: Status
    body: Annotated[str, StringConstraints(max_length=65536)] = ""


class Redirect(Model):
    """`path` replaces the whole path, `path_prefix` the matched prefix; what is not written stays as it was."""

    scheme: Literal["http", "https"] | None = None
    host: Host | None = None
    port: PortNumber | None = None
    path: PathText | None = None
    path_prefix: PathText | None = None
    status: Literal[301, 302, 303, 307, 308] = 302


class Route(Policies):
    """One route. Exactly one of `backends`, `respond`, `redirect` says what happens to a request that matches."""

    match: Match
    backends: tuple[Backend, ...] | None = Field(default=None, min_length=1)
    respond: Respond | None = None
    redirect: Redirect | None = None
    description: str | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    authentication: Authentication | None = None
    authorization: Authorization | None = None
    rate_limits: tuple[RateLimit, ...] | None = None

    @model_validator(mode="after")
    def _one_action(self) -> Self:
        written = {"backends", "respond", "redirect"} & written_in(self)
        if len(written) != 1:
            raise ValueError("write exactly one of backends, respond, redirect")
        return self


class Module(Policies):
    """Routes that ship together. `tier`: the least tier that may call. `path_prefix`: a fence around all paths."""

    tier: Name
    listener: Name
    hosts: tuple[Host, ...] = ("*",)
    path_prefix: PathText | None = None
    description: str | None = None
    authentication: Authentication | None = None
    authorization: Authorization | None = None
    rate_limits: tuple[RateLimit, ...] | None = None
    routes: dict[Name, Route]  # `check` wants one at least: a broken route must not take its module out of sight


class Gateway(Model):
    """A whole gateway. Maps are keyed by name; `tiers` is ordered, lowest rank first."""

    version: Literal[1]
    owner: Name = "default"
    labels: dict[str, str] = {}
    listeners: dict[Name, Listener] = {}
    upstreams: dict[Name, Upstream] = {}
    jwt_providers: dict[Name, JwtProvider] = {}
    api_keys: dict[Name, ApiKeys] = {}
    tiers: dict[Name, Tier] = {}
    rate_limit_defaults: RateLimitDefaults = RateLimitDefaults()
    defaults: Defaults = Defaults()
    modules: dict[Name, Module] = {}

    def rank(self, tier: str) -> int:
        """The tier's place, 0 the lowest. Raises ValueError for an unknown tier."""
        return list(self.tiers).index(tier)

    def tiers_from(self, tier: str) -> tuple[str, ...]:
        """The tiers that satisfy `tier`: itself and all above it."""
        return tuple(self.tiers)[self.rank(tier) :]

    @property
    def qualify_clients(self) -> bool:
        """Whether a JWT's `sub` needs its provider's name in front to name one client of this gateway."""
        return len(self.jwt_providers) > 1


def decode(document: Any) -> Gateway:
    """The merged document (JSON-like values) as a Gateway. Raises pydantic.ValidationError.

    It goes through JSON because pydantic's strict mode takes a list for a tuple only there, and because bodies are
    stored as JSON: what is decoded now and what is read back from the store is then the same by construction.
    """
    return Gateway.model_validate_json(json.dumps(document))
