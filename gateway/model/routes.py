"""Matching, and what happens to a request that matches."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from gateway.model.base import Model, OneOf, PathText, PortNumber, Status, written_in
from gateway.model.callers import RateLimit
from gateway.model.policies import Authentication, Authorization, Policies
from gateway.scalars import HeaderName, Host, Method, Name


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
