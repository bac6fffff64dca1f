"""What a gateway, a module and a route may ask of a request."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.model.base import Model, OneOf
from gateway.scalars import Duration, HeaderName, HeaderValue, Method, Name


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
