"""What a gateway, a module and a route may ask of a request."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.model.base import Model, OneOf, PathMatch
from gateway.model.traffic import BandwidthLimit, Cache, Compression, Csrf, FaultInjection, RequestBuffer
from gateway.scalars import Duration, HeaderName, HeaderValue, Method, Name


class AnyOf(Model):
    """One of these ways is enough. `optional`: who sends no credential at all is let in too, as nobody."""

    any_of: tuple[Name, ...] = Field(min_length=1)
    optional: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return self.any_of


class AllOf(Model):
    """All of these ways at once. The first one says who is calling; the others must hold as well."""

    all_of: tuple[Name, ...] = Field(min_length=2)

    @property
    def names(self) -> tuple[str, ...]:
        return self.all_of


Authentication = Literal["none"] | AnyOf | AllOf


class ClaimMatch(OneOf):
    """A claim equals `exact`, is one `in` the list, or (for a list claim) contains such a value."""

    exact: str | bool | int | None = None
    in_: tuple[str, ...] | None = Field(default=None, alias="in", min_length=1)


class AuthorizationRule(Model):
    """Matches when every condition does: all `scopes` and `claims`, one of `tiers`, `methods`, `paths`, `cidrs`.

    `shadow`: what the rule would have changed is counted, and it decides nothing.
    """

    name: Name
    action: Literal["allow", "deny"]
    scopes: tuple[str, ...] = ()
    claims: dict[str, ClaimMatch] = {}
    tiers: tuple[Name, ...] = ()
    methods: tuple[Method, ...] = ()
    paths: tuple[PathMatch, ...] = ()
    cidrs: tuple[str, ...] = ()
    shadow: bool = False


class Authorization(Model):
    """Rules in order, the first that matches decides, else `default_action`."""

    default_action: Literal["allow", "deny"] = "deny"
    rules: tuple[AuthorizationRule, ...] = ()


class Timeouts(Model):
    request: Duration | None = None  # the whole request, Envoy RouteAction.timeout; past it the caller gets 504
    idle: Duration | None = None  # no byte in either direction, Envoy RouteAction.idle_timeout
    stream: Duration | None = None  # the whole exchange, upload and streamed answer included, Envoy max_stream_duration


class Backoff(Model):
    base: Duration = 25
    max: Duration = 250


RetryCondition = Literal[
    "connect_failure",
    "reset",
    "refused_stream",
    "gateway_error",
    "5xx",
    "retriable_4xx",
    "cancelled",
    "deadline_exceeded",
    "internal",
    "resource_exhausted",
    "unavailable",
]
"""Envoy's `x-envoy-retry-on` and, from `cancelled` on, `x-envoy-retry-grpc-on`."""


class Retry(Model):
    attempts: Annotated[int, Field(ge=1, le=10)] = 2
    codes: tuple[Annotated[int, Field(ge=400, le=599)], ...] = ()
    conditions: tuple[RetryCondition, ...] = ("connect_failure", "refused_stream")
    backoff: Backoff = Backoff()
    per_try_timeout: Duration | None = None
    per_try_idle_timeout: Duration | None = None
    avoid_previous_hosts: bool = True


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
    csrf: Literal["none"] | Csrf | None = None
    compression: Literal["none"] | Compression | None = None
    fault_injection: Literal["none"] | FaultInjection | None = None
    request_buffer: Literal["none"] | RequestBuffer | None = None
    bandwidth_limit: Literal["none"] | BandwidthLimit | None = None
    grpc_web: bool | None = None
    cache: Literal["none"] | Cache | None = None


class Defaults(Policies):
    pass
