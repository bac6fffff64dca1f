"""Inheritance made explicit: each route with every policy that applies to it, in the order Envoy must try them.

`defaults` -> module -> route, the nearest wins field by field. Whoever compiles, plans or explains starts from these
values and never looks up a parent again.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from gateway.model import (
    AllOf,
    AnyOf,
    Authentication,
    Authorization,
    Cors,
    Gateway,
    HeaderEdits,
    Match,
    Module,
    Policies,
    RateLimit,
    Retry,
    Route,
)
from gateway.problems import Path
from gateway.traffic import Traffic, traffic

_OPERATOR = re.compile(r"[{*]")
DEFAULT_REQUEST_TIMEOUT = 15_000
DEFAULT_IDLE_TIMEOUT = 60_000
NO_EDITS = HeaderEdits()
NOBODY = AnyOf.model_construct(any_of=())  # authentication that nobody wrote accepts nobody; `check` reports it


@dataclass(frozen=True, slots=True)
class ResolvedTimeouts:
    """Milliseconds."""

    request: int
    idle: int
    stream: int | None = None


@dataclass(frozen=True, slots=True)
class ResolvedRoute:
    """A route with nothing left to inherit; None means that a policy is off."""

    module: str
    name: str
    path: Path
    listener: str
    hosts: tuple[str, ...]
    tier: str
    route: Route
    authentication: Authentication
    authorization: tuple[Authorization, ...]
    timeouts: ResolvedTimeouts
    retry: Retry | None
    retry_inherited: bool
    cors: Cors | None
    request_headers: HeaderEdits
    response_headers: HeaderEdits
    rate_limits: tuple[RateLimit, ...]
    traffic: Traffic

    @property
    def full_name(self) -> str:
        return f"{self.module}/{self.name}"

    @property
    def match(self) -> Match:
        return self.route.match

    def authenticated_by(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of `names` (providers or key sources) that this route accepts, in the document's order."""
        known = set(names)
        accepted = self.authentication.names if isinstance(self.authentication, (AnyOf, AllOf)) else ()
        return tuple(name for name in accepted if name in known)


def resolve(gateway: Gateway) -> tuple[ResolvedRoute, ...]:
    """Every route of every module, most specific first (see `precedence`)."""
    routes = (
        resolve_route(gateway, module_name, module, route_name, route)
        for module_name, module in gateway.modules.items()
        for route_name, route in module.routes.items()
    )
    return tuple(sorted(routes, key=precedence))


def resolve_route(gateway: Gateway, module_name: str, module: Module, route_name: str, route: Route) -> ResolvedRoute:
    levels: tuple[Policies, ...] = (route, module, gateway.defaults)
    timeouts = [level.timeouts for level in levels if level.timeouts is not None]
    retry: Literal["none"] | Retry | None = first(level.retry for level in levels)
    cors: Literal["none"] | Cors | None = first(level.cors for level in levels)
    floor = gateway.floor
    authorization = first((route.authorization, module.authorization))
    stream = first(t.stream for t in timeouts)
    request = first(t.request for t in timeouts) or stream or DEFAULT_REQUEST_TIMEOUT
    if floor.timeouts.request:
        request = min(request, floor.timeouts.request)
    return ResolvedRoute(
        module=module_name,
        name=route_name,
        path=("modules", module_name, "routes", route_name),
        listener=module.listener,
        hosts=module.hosts,
        tier=module.tier,
        route=route,
        authentication=first((route.authentication, module.authentication)) or NOBODY,
        authorization=tuple(block for block in (floor.authorization, authorization) if block is not None),
        timeouts=ResolvedTimeouts(
            request=request,
            # Who gives a request five minutes does not want it cut off after one without a byte.
            idle=first(t.idle for t in timeouts) or max(DEFAULT_IDLE_TIMEOUT, request),
            stream=stream,
        ),
        retry=None if retry == "none" else retry,
        retry_inherited=route.retry is None,
        cors=None if cors == "none" else cors,
        request_headers=merge_edits(level.request_headers for level in reversed(levels)),
        response_headers=merge_edits([*(level.response_headers for level in reversed(levels)), floor.response_headers]),
        rate_limits=floor.rate_limits + (module.rate_limits or ()) + (route.rate_limits or ()),
        traffic=traffic(levels),
    )


T = TypeVar("T")


def first(values: Iterable[T | None]) -> T | None:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)


def merge_edits(edits: Iterable[HeaderEdits | None]) -> HeaderEdits:
    """Header edits from the outermost to the nearest level: later ones override equal names, removals add up."""
    written = [edit for edit in edits if edit is not None]
    if len(written) < 2:
        return written[0] if written else NO_EDITS
    return HeaderEdits(
        set={name: value for edit in written for name, value in edit.set.items()},
        add={name: value for edit in written for name, value in edit.add.items()},
        remove=tuple(dict.fromkeys(name for edit in written for name in edit.remove)),
    )


def precedence(route: ResolvedRoute) -> tuple[object, ...]:
    """Gateway API's order: priority, exact, longest template or prefix, method, headers, query; regex; then name."""
    match, path = route.match, route.match.where
    if path.exact is not None:
        kind, text = 0, path.exact
    elif path.regex is not None:
        kind, text = 2, ""
    else:
        kind, text = 1, path.prefix or path.template or ""
    literal = _OPERATOR.split(text, 1)[0] if path.template is not None else text.rstrip("/") + "/"
    return (
        -(route.route.priority or 0),
        kind,
        -len(literal),
        -text.count("/"),
        not match.methods,
        # a cookie is in a header, and a gRPC call is known by one
        -(len(match.headers) + len(match.cookies) + (match.grpc is not None)),
        -len(match.query),
        route.module,
        route.name,
    )


def header_names_of_identity(gateway: Gateway) -> tuple[str, ...]:
    """Every header by which this gateway tells upstreams who calls: stripped first from what clients send."""
    names = {header for provider in gateway.jwt_providers.values() for header in provider.claims_to_headers.values()}
    names |= {keys.forward_client_id for keys in gateway.api_keys.values() if keys.forward_client_id}
    names |= {basic.forward_username for basic in gateway.basic_auth.values() if basic.forward_username}
    names |= {kind.forward_client_id for kind in gateway.client_certificates.values() if kind.forward_client_id}
    return tuple(sorted(names))


def by_host(routes: Iterable[ResolvedRoute]) -> Mapping[str, tuple[ResolvedRoute, ...]]:
    """The routes of one listener, grouped by host, keeping their order; hosts sorted."""
    hosts: dict[str, list[ResolvedRoute]] = {}
    for route in routes:
        for host in route.hosts:
            hosts.setdefault(host, []).append(route)
    return {host: tuple(hosts[host]) for host in sorted(hosts)}
