"""Matching, and what happens to a request that matches."""

from functools import lru_cache
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from gateway.model.base import Model, OneOf, PathMatch, PathText, PortNumber, Status, written_in
from gateway.model.callers import RateLimit
from gateway.model.policies import Authentication, Authorization, HeaderEdits, Policies
from gateway.model.raw import RawRoute
from gateway.model.upstreams import SessionPersistence
from gateway.scalars import CookieName, HeaderName, Host, Method, Name, Percent


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


class GrpcMatch(Model):
    """A gRPC method, or all of a service: calls only, so the content type must say that it is one."""

    service: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$", max_length=512)
    ]
    method: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)] | None = None


class Match(Model):
    """Exactly one of `path` and `grpc`; whoever needs the path of either asks `where`."""

    path: PathMatch | None = None
    grpc: GrpcMatch | None = None
    methods: tuple[Method, ...] = ()
    headers: dict[HeaderName, ValueMatch] = {}
    cookies: dict[CookieName, ValueMatch] = {}
    query: dict[str, ValueMatch] = {}

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if len(written_in(self) & {"path", "grpc"}) != 1:
            raise ValueError("write exactly one of path, grpc")
        return self

    @property
    def where(self) -> PathMatch:
        """The path that is written, or the one by which a gRPC method is called (`/package.Service/Method`)."""
        if self.grpc is not None:
            return grpc_path(self.grpc.service, self.grpc.method)
        return self.path or PathMatch(prefix="/")  # the validator has seen to it that one of them is written


@lru_cache(maxsize=4096)
def grpc_path(service: str, method: str | None) -> PathMatch:
    return PathMatch(exact=f"/{service}/{method}") if method else PathMatch(prefix=f"/{service}")


class Backend(Model):
    """The header edits are made after the route's, on what goes to and comes from this backend."""

    upstream: Name
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    request_headers: HeaderEdits | None = None
    response_headers: HeaderEdits | None = None


class Mirror(Model):
    """A copy of `percent` of the requests, credentials included, goes there too; its answers are thrown away."""

    upstream: Name
    percent: Percent = 100.0


class RegexRewrite(Model):
    """Every match of `pattern` (RE2) in the path becomes `substitution`, where `\\1` is the first group."""

    pattern: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    substitution: Annotated[str, StringConstraints(pattern=r"^[^?#\s\x00-\x1f\x7f]*$", max_length=1024)]


class PathRewrite(OneOf):
    """`exact` replaces the whole path, `prefix` the matched prefix, `template` uses the match template's variables."""

    exact: PathText | None = None
    prefix: PathText | None = None
    template: PathText | None = None
    regex: RegexRewrite | None = None


class Rewrite(Model):
    """What the upstream sees instead. `auto_host`: the name of the DNS upstream that the request goes to."""

    path: PathRewrite | None = None
    host: Host | None = None
    auto_host: bool = False

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.path is None and self.host is None and not self.auto_host:
            raise ValueError("write path, host or auto_host")
        if self.host is not None and self.auto_host:
            raise ValueError("write one of host, auto_host")
        return self


class Respond(Model):
    status: Status
    body: Annotated[str, StringConstraints(max_length=65536)] = ""


class Redirect(Model):
    """`path` replaces the whole path, `path_prefix` the matched prefix, `path_regex` what its pattern finds.

    What is not written stays as it was.
    """

    scheme: Literal["http", "https"] | None = None
    host: Host | None = None
    port: PortNumber | None = None
    path: PathText | None = None
    path_prefix: PathText | None = None
    path_regex: RegexRewrite | None = None
    status: Literal[301, 302, 303, 307, 308] = 302


class Route(Policies):
    """One route. Exactly one of `backends`, `respond`, `redirect` says what happens to a request that matches."""

    match: Match
    backends: tuple[Backend, ...] | None = Field(default=None, min_length=1)
    respond: Respond | None = None
    redirect: Redirect | None = None
    mirror: Mirror | None = None
    rewrite: Rewrite | None = None
    upgrades: tuple[Literal["websocket"], ...] = ()
    envoy: RawRoute | None = None
    session_persistence: SessionPersistence | None = None
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
