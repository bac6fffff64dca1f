"""Which route takes a request, decided here as the compiled gateway decides it in Envoy.

Pure, and fast after `index`: a request meets only the routes of its host whose literal beginning its path has. Text
that is not ASCII stands for its UTF-8 bytes; a byte that is none is written as Python's `surrogateescape` does.

What Envoy itself writes into a request before it looks for a route (x-request-id, x-forwarded-*) is not known here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import Literal

from gateway.checks.routes import written
from gateway.conditions import Condition, PathTest, View, conditions, header_lines, path_test, preflight_conditions
from gateway.model import Cors, Gateway, Listener
from gateway.normal import Refused, authority, is_plain, normalise
from gateway.resolve import ResolvedRoute, resolve
from gateway.subsume import ancestors, beginning

Kind = Literal["route", "unmatched", "refused", "strict_path", "redirect", "preflight"]
ANY_HOST = "*"


@dataclass(frozen=True, slots=True)
class Request:
    """`target`: path and query. `host` may have a port. `listener`: its name; not needed where there is only one."""

    method: str
    target: str
    host: str = ""
    headers: Sequence[tuple[str, str]] = ()
    listener: str | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """A route that was considered. `reason`: `path`, `method`, `header x`, `query y`, …, or `lower precedence`."""

    route: ResolvedRoute
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a request, before anybody asks who sent it.

    `route`: the one that takes it; of a `preflight` the one it asks about, None where one answer is a whole host's.
    `status`: what Envoy answers by itself (400, 403, 307, the listener's redirect, 404). `host`: whose table it was.
    """

    kind: Kind
    route: ResolvedRoute | None = None
    status: int | None = None
    reason: str = ""
    host: str = ""
    path: str = ""
    lost: tuple[Lost, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A route, or the preflights of its path, at its place in the order of its table."""

    order: int
    route: ResolvedRoute
    kind: Literal["route", "preflight"]
    path_fits: PathTest
    conditions: tuple[Condition, ...]

    def fault(self, view: View) -> str | None:
        """What of the request does not fit; None if it is taken."""
        if not self.path_fits(view.target.path):
            return "path"
        return next((condition.what for condition in self.conditions if not condition.holds(view)), None)


@dataclass(slots=True)
class Table:
    """The candidates of one host by exact path, and by the whole segments that all else begins with."""

    exact: dict[str, list[Candidate]] = field(default_factory=dict)
    below: dict[str, list[Candidate]] = field(default_factory=dict)
    answers_preflights: bool = False

    def add(self, candidate: Candidate) -> None:
        kind, text = written(candidate.route.match.where)
        if kind == "exact":
            self.exact.setdefault(text, []).append(candidate)
        else:
            self.below.setdefault(beginning(kind, text), []).append(candidate)

    def all(self) -> Iterable[Candidate]:
        return chain.from_iterable((*self.exact.values(), *self.below.values()))

    def candidates(self, path: str) -> list[Candidate]:
        """Those that may take the path, first come first; and those of the same path but for a slash at its end."""
        near = path[:-1] if path.endswith("/") else path + "/"
        lists = [self.exact.get(path), self.exact.get(near), *map(self.below.get, ancestors(path))]
        found = [candidates for candidates in lists if candidates]
        if len(found) == 1:
            return found[0]
        return sorted(chain.from_iterable(found), key=attrgetter("order"))


@dataclass(frozen=True, slots=True)
class Index:
    """A gateway ready to be asked. Make it once."""

    listeners: Mapping[str, Listener]
    tables: Mapping[str, Mapping[str, Table]]


def index(gateway: Gateway, routes: Iterable[ResolvedRoute] | None = None) -> Index:
    """`routes`: those of the gateway, resolved and in order, if the caller has them already."""
    found = {name: Builder() for name in gateway.listeners}
    for route in resolve(gateway) if routes is None else routes:
        if route.listener in found:
            found[route.listener].add(route)
    return Index(gateway.listeners, {name: builder.tables() for name, builder in found.items()})


class Builder:
    """Routes of one listener, gathered by host."""

    def __init__(self) -> None:
        self.hosts: dict[str, list[ResolvedRoute]] = {ANY_HOST: []}

    def add(self, route: ResolvedRoute) -> None:
        for host in route.hosts:
            self.hosts.setdefault(host, []).append(route)

    def tables(self) -> dict[str, Table]:
        """Hosts of the same routes share a table."""
        shared: dict[tuple[int, ...], Table] = {}
        tables = {}
        for host, routes in self.hosts.items():
            key = tuple(map(id, routes))
            tables[host] = shared[key] if key in shared else shared.setdefault(key, table(routes))
        return tables


def table(routes: Sequence[ResolvedRoute]) -> Table:
    result = Table(answers_preflights=one_policy(routes) is not None)
    pending = {} if result.answers_preflights else preflight_methods(routes)
    order = 0
    for route in routes:
        fits = path_test(route.match.where)
        methods = pending.pop(preflight_key(route), None) if route.cors is not None else None
        if methods is not None:
            result.add(Candidate(order, route, "preflight", fits, preflight_conditions(methods)))
            order += 1
        result.add(Candidate(order, route, "route", fits, tuple(conditions(route.match))))
        order += 1
    return result


def one_policy(routes: Sequence[ResolvedRoute]) -> Cors | None:
    """The CORS policy that all routes have: then every preflight of the host is answered at once."""
    policy = routes[0].cors if routes else None
    return policy if policy is not None and all(route.cors == policy for route in routes) else None


def preflight_methods(routes: Iterable[ResolvedRoute]) -> dict[tuple[object, ...], frozenset[str]]:
    """For each path and policy the methods that a preflight may ask about; empty for all."""
    found: dict[tuple[object, ...], frozenset[str]] = {}
    for route in routes:
        if route.cors is not None:
            key, methods = preflight_key(route), frozenset(route.match.methods)
            known = found.get(key, methods)
            found[key] = known | methods if known and methods else frozenset()
    return found


def preflight_key(route: ResolvedRoute) -> tuple[object, ...]:
    return (*written(route.match.where), route.cors)


PREFLIGHT = preflight_conditions()


def route_for(index: Index, request: Request) -> Decision:
    """What becomes of the request, and why others did not get it. Raises KeyError for an unknown listener."""
    name = request.listener or next(iter(index.listeners))
    listener = index.listeners[name]
    seen = read(listener, request)
    if isinstance(seen, Refused):
        return Decision("refused", status=seen.status, reason=seen.reason)
    if listener.strict_paths and not is_plain(seen.target.path):
        return Decision("strict_path", status=403, reason="the path is ambiguous", path=seen.target.path)
    if listener.redirect is not None:
        return Decision("redirect", status=listener.redirect.status, path=seen.target.path)
    host = host_of(index.tables[name], seen.headers["host"][0].lower())
    return decide(index.tables[name][host], host, seen)


def read(listener: Listener, request: Request) -> View | Refused:
    """The request after Envoy's normalisation."""
    host = authority(request.host)
    if isinstance(host, Refused):
        return host
    target = normalise(request.target, listener.escaped_slashes)
    if isinstance(target, Refused):
        return target
    underscored = next((name for name, _ in request.headers if "_" in name), None)
    if underscored is not None:
        return Refused(400, f"the header name {underscored} has an underscore")
    return View(request.method, target, header_lines(request.headers, host))


def host_of(tables: Mapping[str, object], host: str) -> str:
    """The host of the document whose routes count: equal, else the longest `*.` that it ends with, else `*`."""
    if host in tables:
        return host
    at = host.find(".", 1)
    while at >= 0:
        wildcard = "*" + host[at:]
        if wildcard in tables:
            return wildcard
        at = host.find(".", at + 1)
    return ANY_HOST


def decide(table: Table, host: str, view: View) -> Decision:
    path = view.target.path
    if table.answers_preflights and all(condition.holds(view) for condition in PREFLIGHT):
        return Decision("preflight", host=host, path=path)
    taken: Candidate | None = None
    lost: list[Lost] = []
    for candidate in table.candidates(path):
        fault = candidate.fault(view)
        if fault is None and taken is None:
            taken = candidate
        elif candidate.kind == "route":
            lost.append(Lost(candidate.route, fault or "lower precedence"))
    if taken is None:
        return Decision("unmatched", status=404, host=host, path=path, lost=tuple(lost))
    return Decision(taken.kind, taken.route, host=host, path=path, lost=tuple(lost))
