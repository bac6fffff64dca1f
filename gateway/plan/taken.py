"""Who takes which requests: for each route a request that is made for it, asked of the gateway before and after.

This finds what no comparison of routes by themselves does: a new route that takes another one's requests, a deleted one
whose requests now go elsewhere. It is by example, so it finds what it finds and proves nothing else.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.checks.routes import written
from gateway.conditions import path_test, value_test
from gateway.match import Decision, Index, Request, route_for
from gateway.model import PathMatch, ValueMatch
from gateway.problems import Path
from gateway.resolve import ResolvedRoute

MOST_HOSTS: Final = 4
"""Of a route's hosts so many are tried."""

ANYTHING: Final = ("x", "1", "a", "A", "true", "abc", "2026-01-01", "00000000-0000-0000-0000-000000000000")
"""Values for what only a regex describes; the first that it takes is sent."""

NOBODY: Final = "404"
"""The answer to what no route takes."""

GRPC: Final = ("content-type", "application/grpc")


@dataclass(frozen=True, slots=True)
class Moved:
    """A request that another route takes. `before`, `after`: the full names of routes, or the answer (`404`)."""

    listener: str
    method: str
    host: str
    target: str
    before: str
    after: str
    path: Path
    """The route that now takes it; if none does, the one that did."""


def moved(routes: Iterable[ResolvedRoute], before: Index, after: Index) -> Iterator[Moved]:
    """Examples of the routes that both gateways answer differently, each once."""
    seen = set()
    for route in routes:
        for request in examples(route):
            if route.listener not in before.listeners or route.listener not in after.listeners:
                continue
            old, new = route_for(before, request), route_for(after, request)
            pair = (route.listener, *map(name, (old, new)))
            if pair[1] != pair[2] and pair not in seen:
                seen.add(pair)
                taker = new.route or old.route or route
                sent = (request.method, request.host, request.target)
                yield Moved(route.listener, *sent, before=pair[1], after=pair[2], path=taker.path)


def name(decision: Decision) -> str:
    """What becomes of the request, so that equal ones have equal names."""
    if decision.route is not None:
        return decision.route.full_name
    return str(decision.status) if decision.status is not None else decision.kind


def examples(route: ResolvedRoute) -> Iterator[Request]:
    """Requests that fit the route, one for each of its hosts; none where nobody knows what its regexes take."""
    target = _target(route.match.where)
    pairs = {part: _texts(getattr(route.match, part)) for part in ("headers", "cookies", "query")}
    if target is None or any(found is None for found in pairs.values()):
        return
    headers = list((pairs["headers"] or {}).items())
    if route.match.grpc is not None and "content-type" not in dict(headers):
        headers.append(GRPC)
    if pairs["cookies"]:
        headers.append(("cookie", "; ".join(f"{key}={value}" for key, value in pairs["cookies"].items())))
    query = "&".join(f"{key}={value}" for key, value in (pairs["query"] or {}).items())
    method = route.match.methods[0] if route.match.methods else "POST" if route.match.grpc is not None else "GET"
    for host in route.hosts[:MOST_HOSTS]:
        sent = host.replace("*", "any.invalid" if host == "*" else "any", 1)
        yield Request(method, target + ("?" + query if query else ""), sent, tuple(headers), route.listener)


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
