"""The routes whose outcome changes: themselves, by what they inherit, or by what they refer to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

from gateway.document import Key, path_of
from gateway.match import host_of
from gateway.model import Gateway, Route
from gateway.plan.edits import Action
from gateway.problems import dotted
from gateway.resolve import ResolvedRoute
from gateway.traffic import Traffic

RESOLVED: Final = (
    "listener",
    "hosts",
    "tier",
    "authentication",
    "authorization",
    "timeouts",
    "retry",
    "cors",
    "request_headers",
    "response_headers",
    "rate_limits",
)
"""What a route may inherit, compared as it is in the end."""

TRAFFIC: Final = tuple(field.name for field in fields(Traffic))
OWN: Final = tuple(name for name in Route.model_fields if name not in {*RESOLVED, *TRAFFIC, "description"})
"""What only a route itself can say."""

CALLERS: Final = ("jwt_providers", "api_keys", "basic_auth", "client_certificates", "oidc")
EVERYWHERE: Final = ("rate_limit_defaults", "envoy")
"""Objects that no route names and that all depend on."""


@dataclass(frozen=True, slots=True)
class RouteChange:
    """`reasons`: the fields that differ in effect (`timeouts`), and objects behind it that do (`upstreams.echo`)."""

    route: ResolvedRoute
    action: Action
    reasons: tuple[str, ...] = ()


Routes = Mapping[str, ResolvedRoute]
"""By full name."""


def changes(
    before: Routes, after: Routes, gateway: Gateway, updated: Iterable[Key], tiers: frozenset[str]
) -> Iterator[RouteChange]:
    """By name. `gateway`: the new one. `updated`: the objects that both have and that differ; `tiers`: of those."""
    behind = Behind(gateway, frozenset(updated), tiers)
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None and new is not None:
            yield RouteChange(new, "created")
        elif new is None and old is not None:
            yield RouteChange(old, "deleted")
        elif old is not None and new is not None:
            reasons = (*differences(old, new), *behind.of(new))
            if reasons:
                yield RouteChange(new, "updated", reasons)


def differences(old: ResolvedRoute, new: ResolvedRoute) -> Iterator[str]:
    """The names of what differs in effect."""
    yield from (name for name in RESOLVED if getattr(old, name) != getattr(new, name))
    if old.traffic != new.traffic:
        yield from (name for name in TRAFFIC if getattr(old.traffic, name) != getattr(new.traffic, name))
    if old.route is not new.route:
        yield from (name for name in OWN if getattr(old.route, name) != getattr(new.route, name))


@dataclass(frozen=True, slots=True)
class Behind:
    """What routes refer to and that changed."""

    gateway: Gateway
    updated: frozenset[Key]
    tiers: frozenset[str]

    def of(self, route: ResolvedRoute) -> Iterator[str]:
        if self.updated:
            yield from (dotted(path_of(key)) for key in sorted(self._uses(route) & self.updated))
        if self.tiers:
            yield from (f"tiers.{tier}" for tier in self.gateway.tiers_from(route.tier) if tier in self.tiers)

    def _uses(self, route: ResolvedRoute) -> set[Key]:
        found: set[Key] = {("listeners", route.listener), *((kind, kind) for kind in EVERYWHERE)}
        found |= {("upstreams", backend.upstream) for backend in route.route.backends or ()}
        if route.route.mirror is not None:
            found.add(("upstreams", route.route.mirror.upstream))
        return found | {
            (kind, name) for kind in CALLERS for name in route.authenticated_by(getattr(self.gateway, kind))
        }


def with_strangers(
    own: Iterable[RouteChange], before: Sequence[ResolvedRoute], after: Sequence[ResolvedRoute]
) -> tuple[RouteChange, ...]:
    """Also the routes of wildcards whose hosts have got, or lost, routes of their own: only those serve a host then."""
    found = {change.route.full_name: change for change in own}
    was, now = hosts(before), hosts(after)
    for listener in was.keys() & now.keys():
        for known, more in ((was[listener], now[listener]), (now[listener], was[listener])):
            moves = {host: host_of(known, sent(host)) for host in sorted(more.keys() - known.keys())}
            for route in (route for host in moves for route in known.get(moves[host], ())):
                if route.full_name not in found:
                    strangers = (host for host, wildcard in moves.items() if wildcard in route.hosts)
                    found[route.full_name] = RouteChange(route, "updated", tuple(f"host {host}" for host in strangers))
    return tuple(found[name] for name in sorted(found))


def hosts(routes: Iterable[ResolvedRoute]) -> Mapping[str, Mapping[str, list[ResolvedRoute]]]:
    """The routes by listener and host."""
    found: dict[str, dict[str, list[ResolvedRoute]]] = {}
    for route in routes:
        for host in route.hosts:
            found.setdefault(route.listener, {}).setdefault(host, []).append(route)
    return found


def sent(host: str) -> str:
    """What a client might send for a host of the document."""
    return host.replace("*", "any.invalid" if host == "*" else "any", 1)
