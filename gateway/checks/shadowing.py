"""Routes that never get a request, because others before them take all of theirs; and modules that meet by chance.

Proven from the matches alone (`gateway.subsume`), host by host: Envoy looks only at the routes of the most specific
host, so a route for `*` takes nothing from one for `api.example.com`. What a route is compared with is looked up by
path, and bounded, so the time is linear in the number of routes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from gateway.checks.routes import literal, match_key, written
from gateway.checks.scope import Scope
from gateway.problems import Problem, dotted
from gateway.resolve import ResolvedRoute, precedence
from gateway.subsume import ancestors, beginning, conditions_cover, conditions_meet, path_covers, paths_meet

MOST_COMPARED: Final = 64
"""So many routes of one path at most are looked at before a route is believed to be reached."""

Taken = dict[str, tuple[ResolvedRoute, ResolvedRoute, list[str]]]
"""By name: a route, one that takes all its requests, and the hosts on which that is so."""


def problems(scope: Scope) -> Iterator[Problem]:
    taken: Taken = {}
    meetings: dict[tuple[str, str], Problem] = {}
    for hosts, routes in tables(scope):
        for route, by in shadowed(routes):
            taken.setdefault(route.full_name, (route, by, []))[2].extend(hosts)
        for route, by in by_name_only(routes):
            if route.full_name not in taken:
                meetings.setdefault((route.full_name, by.full_name), _meeting(route, by))
    yield from (_shadow(*found) for found in taken.values())
    yield from meetings.values()


def tables(scope: Scope) -> Iterator[tuple[list[str], Sequence[ResolvedRoute]]]:
    """The routes of each host of each listener in their order; hosts with the same routes together."""
    by_host: dict[tuple[str, str], list[ResolvedRoute]] = {}
    for route in scope.routes:
        listener = scope.gateway.listeners.get(route.listener)
        if listener is not None and listener.redirect is None:
            for host in route.hosts:
                by_host.setdefault((route.listener, host), []).append(route)
    same: dict[tuple[int, ...], tuple[list[str], list[ResolvedRoute]]] = {}
    for (_, host), routes in by_host.items():
        same.setdefault(tuple(map(id, routes)), ([], routes))[0].append(host)
    yield from same.values()


# ---------------------------------------------------------------------------------------------------------- shadowing
@dataclass(slots=True)
class Earlier:
    """The routes before, by what their paths begin with: exact ones, prefixes, and templates and regexes."""

    exact: dict[str, list[ResolvedRoute]] = field(default_factory=dict)
    prefix: dict[str, list[ResolvedRoute]] = field(default_factory=dict)
    pattern: dict[str, list[ResolvedRoute]] = field(default_factory=dict)

    def add(self, kind: str, text: str, route: ResolvedRoute) -> None:
        index = {"exact": self.exact, "prefix": self.prefix}.get(kind, self.pattern)
        index.setdefault(text if kind == "exact" else beginning(kind, text), []).append(route)

    def around(self, kind: str, text: str) -> Iterator[ResolvedRoute]:
        """Those whose path may cover this one."""
        if kind == "exact":
            yield from islice(self.exact.get(text, ()), MOST_COMPARED)
        if not self.prefix and not self.pattern:
            return
        for ancestor in ancestors(text if kind == "exact" else beginning(kind, text)):
            if ancestor in self.prefix:
                yield from islice(self.prefix[ancestor], MOST_COMPARED)
            if ancestor in self.pattern and kind != "prefix":
                yield from islice(self.pattern[ancestor], MOST_COMPARED)


def shadowed(routes: Sequence[ResolvedRoute]) -> Iterator[tuple[ResolvedRoute, ResolvedRoute]]:
    """Each route of one host, in the order they are tried, that never gets a request, with one that takes them all."""
    earlier = Earlier()
    for route in routes:
        match = route.match
        where = match.where
        kind, text = written(where)
        for other in earlier.around(kind, text):
            if conditions_cover(other.match, match) and path_covers(other.match.where, where):
                if not _told_already(other, route):
                    yield route, other
                break
        earlier.add(kind, text, route)


def _told_already(one: ResolvedRoute, other: ResolvedRoute) -> bool:
    """GW211 and GW212 speak of routes that match the same but for their methods, at one priority."""
    same_priority = (one.route.priority or 0) == (other.route.priority or 0)
    return same_priority and match_key(one.match) == match_key(other.match)


def _shadow(route: ResolvedRoute, by: ResolvedRoute, hosts: list[str]) -> Problem:
    everywhere = set(hosts) >= set(route.hosts)
    code, where = ("GW240", "") if everywhere else ("GW241", f" on host '{hosts[0]}'")
    message = f"no request gets here{where}: {dotted(by.path)} comes before and takes all that this route matches"
    help_ = "remove it, make its match the narrower one, or give it a higher `priority`"
    return Problem(code, (*route.path, "match"), message, help_, "warning")


# ------------------------------------------------------------------------------------------------------------ overlap
def by_name_only(routes: Sequence[ResolvedRoute]) -> Iterator[tuple[ResolvedRoute, ResolvedRoute]]:
    """Routes of two modules that both match some request, where only the order of their names decides."""
    by_path: dict[str, list[ResolvedRoute]] = {}
    for route in routes:
        by_path.setdefault(_fixed_part(route), []).append(route)
    for near in by_path.values():
        if len(near) > 1 and any(route.module != near[0].module for route in near):
            yield from _meetings(near)


def _meetings(near: Sequence[ResolvedRoute]) -> Iterator[tuple[ResolvedRoute, ResolvedRoute]]:
    equal: dict[tuple[object, ...], list[ResolvedRoute]] = {}
    for route in near:
        before = equal.setdefault(precedence(route)[:-2], [])
        for other in islice(before, MOST_COMPARED):
            if other.module != route.module and _meet(other, route):
                yield route, other
                break
        before.append(route)


def _fixed_part(route: ResolvedRoute) -> str:
    kind, text = written(route.match.where)
    if kind == "prefix":
        return text.rstrip("/") + "/"
    return literal(kind, text) if kind == "template" else text


def _meet(one: ResolvedRoute, other: ResolvedRoute) -> bool:
    if _told_already(one, other):
        return False
    return conditions_meet(one.match, other.match) and paths_meet(one.match.where, other.match.where)


def _meeting(route: ResolvedRoute, by: ResolvedRoute) -> Problem:
    message = f"some requests match {dotted(by.path)} too, which takes them only because its name comes first"
    return Problem("GW242", (*route.path, "match"), message, "say by `priority` which of the two goes first", "warning")
