"""Who takes which requests: for each route a request that is made for it, asked of the gateway before and after.

This finds what no comparison of routes by themselves does: a new route that takes another one's requests, a deleted one
whose requests now go elsewhere. It is by example, so it finds what it finds and proves nothing else.
"""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from gateway.checks.routes import written
from gateway.conditions import path_test, value_test
from gateway.match import Decision, Index, Request, host_of, route_for
from gateway.model import PathMatch, ValueMatch
from gateway.plan.masking import masked
from gateway.plan.routes import sent
from gateway.problems import Path
from gateway.resolve import ResolvedRoute

MOST_HOSTS: Final = 4
"""Of a route's hosts so many are tried."""

ANYTHING: Final = ("x", "1", "a", "A", "true", "abc", "2026-01-01", "00000000-0000-0000-0000-000000000000")
"""Values for what only a regex describes; the first that it takes is sent."""

NOBODY: Final = "404"
"""The answer to what no route takes."""

GRPC: Final = ("content-type", "application/grpc")


Hosts = AbstractSet[tuple[str, str]]
"""Listeners and hosts."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A request that another route takes. `before`, `after`: the full names of routes, or the answer (`404`).

    `headers`: the names of those that it has. `path`: of the route that takes it now; if none does, of the one before.
    """

    listener: str
    method: str
    host: str
    target: str
    headers: tuple[str, ...]
    before: str
    after: str
    path: Path


def moved(requests: Iterable[Request], before: Index, after: Index) -> Iterator[Moved]:
    """The requests that the two answer differently; of those that go from one route to another, the first."""
    seen = set()
    for request in requests:
        listener = request.listener or ""
        if listener not in before.listeners or listener not in after.listeners:
            continue
        old, new = route_for(before, request), route_for(after, request)
        names = (name(old), name(new))
        taker = new.route or old.route
        if names[0] != names[1] and (listener, *names) not in seen and taker is not None:
            seen.add((listener, *names))
            headers = tuple(header for header, _ in request.headers)
            yield Moved(listener, request.method, request.host, shown(request.target), headers, *names, taker.path)


def name(decision: Decision) -> str:
    """What becomes of the request, so that equal ones have equal names."""
    if decision.route is not None:
        return decision.route.full_name
    return str(decision.status) if decision.status is not None else decision.kind


def shown(target: str) -> str:
    """The target without values of parameters that may be secrets."""
    path, mark, query = target.partition("?")
    pairs = (part.partition("=") for part in query.split("&"))
    return path + mark + "&".join(f"{key}{sign}{masked(('query', key), text)}" for key, sign, text in pairs)


def of_hosts(routes: Iterable[ResolvedRoute], where: Hosts) -> Iterator[Request]:
    """Examples of the routes that are on one of the hosts."""
    for route in routes:
        if any((route.listener, host) in where for host in route.hosts):
            yield from examples(route, route.hosts[:MOST_HOSTS])


def of_strangers(routes: Iterable[ResolvedRoute], where: Hosts, tables: Index) -> Iterator[Request]:
    """Examples for hosts that have no routes of their own, of the routes of the wildcard that has taken them."""
    by_wildcard: dict[tuple[str, str], list[str]] = {}
    for listener, host in sorted(where):
        known = tables.tables.get(listener, {})
        if host not in known:
            wildcards = by_wildcard.setdefault((listener, host_of(known, sent(host))), [])
            wildcards += [host] if len(wildcards) < MOST_HOSTS else []
    for route in routes:
        for wildcard in route.hosts:
            yield from examples(route, by_wildcard.get((route.listener, wildcard), ()))


def examples(route: ResolvedRoute, hosts: Iterable[str]) -> Iterator[Request]:
    """A request for each host that fits the route; none where nobody knows what its regexes take."""
    target = _target(route.match.where)
    pairs = {part: _texts(getattr(route.match, part)) for part in ("headers", "cookies", "query")}
    if target is None or any(found is None for found in pairs.values()):
        return
    headers = list((pairs["headers"] or {}).items())
    if route.match.grpc is not None and "content-type" not in dict(headers):
        headers.append(GRPC)
    if cookies := pairs["cookies"]:
        headers.append(("cookie", "; ".join(f"{key}={value}" for key, value in cookies.items())))
    query = "&".join(f"{key}={value}" for key, value in (pairs["query"] or {}).items())
    method = route.match.methods[0] if route.match.methods else "POST" if route.match.grpc is not None else "GET"
    for host in hosts:
        yield Request(method, target + ("?" + query if query else ""), sent(host), tuple(headers), route.listener)


def _target(path: PathMatch) -> str | None:
    kind, text = written(path)
    if kind == "template":
        tried = [_filled(text)]
    elif kind == "regex":
        literal = text.removeprefix("^").removesuffix("$").replace("\\", "")
        start = literal[: next((at for at, sign in enumerate(literal) if sign in "[({*+?|."), len(literal))]
        tried = [literal, start, *(start + more for more in ANYTHING)]
    else:
        tried = [text]
    fits = path_test(path)
    return next((one for one in tried if one.startswith("/") and fits(one)), None)


def _filled(template: str) -> str:
    """`/a/{id}/b/**` -> `/a/x/b/x`; what a variable itself describes (`{x=b/*}`) is filled too."""
    found, rest = "", template
    while "{" in rest:
        before, _, rest = rest.partition("{")
        variable, _, rest = rest.partition("}")
        found += before + (variable.partition("=")[2] or "*")
    return (found + rest).replace("**", "x").replace("*", "x")


def _texts(matches: dict[str, ValueMatch]) -> dict[str, str] | None:
    found = {key: _text(value) for key, value in matches.items() if value.present is not False}
    return None if None in found.values() else {key: text for key, text in found.items() if text is not None}


def _text(value: ValueMatch) -> str | None:
    if value.present:
        return ANYTHING[0]
    text = value.exact or value.prefix or value.suffix or value.contains
    if text is not None:
        return text
    fits = value_test(value)
    return next((one for one in (value.regex or "", *ANYTHING) if fits(one)), None)
