"""Routes: paths inside their fence, no two that match the same, actions that can be carried out."""

from collections.abc import Iterator

from gateway.checks.scope import Scope
from gateway.checks.templates import shape
from gateway.model import Match, PathMatch, ValueMatch, written_in
from gateway.problems import Path, Problem, dotted
from gateway.resolve import ResolvedRoute
from gateway.words import closest

_HARD_TO_SCAN = ("\\Q", "[[", "[]", "[^]")
"""Where brackets and bars are not what they seem; such a regex is not trusted to stay inside a fence."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY")


def problems(scope: Scope) -> Iterator[Problem]:
    yield from _empty(scope)
    for route in scope.routes:
        yield from _fence(scope.gateway.modules[route.module].path_prefix, route)
        yield from _weights(route)
        yield from _redirect(route)
        yield from _methods(route.match.methods, (*route.path, "match", "methods"))
        yield from _timeouts(route)
    yield from _same_match(scope)


def _empty(scope: Scope) -> Iterator[Problem]:
    for name, module in scope.gateway.modules.items():
        if not module.routes and scope.names.decoded:
            yield Problem(
                "GW217", ("modules", name, "routes"), "a module needs a route", "remove the module, or add one"
            )


# ------------------------------------------------------------------------------------------------------------- fence
def _fence(fence: str | None, route: ResolvedRoute) -> Iterator[Problem]:
    if fence is None:
        return
    kind, text = written(route.match.where)
    if inside(fence, kind, text):
        return
    message = f"the path '{text}' is outside the module's path_prefix '{fence}'"
    if kind == "regex":
        message = f"the regex does not keep to the module's path_prefix '{fence}'"
    help_ = f"paths are written in full: begin it with {fence.rstrip('/')}/"
    place = ("path", kind) if route.match.path is not None else ("grpc", "service")
    yield Problem("GW213", (*route.path, "match", *place), message, help_)


def inside(fence: str, kind: str, text: str) -> bool:
    """Whether every path that matches is the fence itself or below it, in whole segments."""
    wanted = fence.rstrip("/")
    sure = literal(kind, text)
    whole = kind in ("exact", "prefix") or sure == text
    return sure.startswith(wanted + "/") or (whole and sure == wanted)


def written(path: PathMatch) -> tuple[str, str]:
    """The comparison that is written, and its text."""
    pairs = (("exact", path.exact), ("prefix", path.prefix), ("template", path.template), ("regex", path.regex))
    return next((kind, text) for kind, text in pairs if text is not None)


def literal(kind: str, text: str) -> str:
    """What every path that matches begins with: all up to the first operator of a template or regex."""
    if kind == "template":
        return text.split("{", 1)[0].split("*", 1)[0]
    if kind == "regex":
        return _literal_of_regex(text)
    return text


def _literal_of_regex(pattern: str) -> str:
    """The plain characters a regex begins with; nothing where an alternative at the top level may begin otherwise."""
    body = pattern.removeprefix("^")
    if any(sign in body for sign in _HARD_TO_SCAN) or _has_outer_alternative(body):
        return ""
    end = next((index for index, char in enumerate(body) if char in "\\.[({*+?|^$"), len(body))
    if end < len(body) and body[end] in "*?{" and end > 0:
        end -= 1  # the operator makes the character before it optional
    return body[:end]


def _has_outer_alternative(body: str) -> bool:
    depth, escaped, in_class = 0, False, False
    for char in body:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
        else:
            depth += (char == "(") - (char == ")")
            if char == "|" and depth == 0:
                return True
    return False


# ------------------------------------------------------------------------------------------------------------ actions
def _weights(route: ResolvedRoute) -> Iterator[Problem]:
    backends = route.route.backends or ()
    if backends and not any(backend.weight for backend in backends):
        yield Problem("GW214", (*route.path, "backends"), "every backend has the weight 0", "give one a weight above 0")
    first: dict[str, int] = {}
    for index, backend in enumerate(backends):
        before = first.setdefault(backend.upstream, index)
        if before != index:
            message = f"the upstream '{backend.upstream}' is here twice"
            yield Problem("GW220", (*route.path, "backends", index, "upstream"), message, "add the two weights up")


def _redirect(route: ResolvedRoute) -> Iterator[Problem]:
    redirect = route.route.redirect
    if redirect is None:
        return
    path = (*route.path, "redirect")
    if sum(one is not None for one in (redirect.path, redirect.path_prefix, redirect.path_regex)) > 1:
        yield Problem("GW218", path, "a redirect has one of `path`, `path_prefix` and `path_regex`")
    elif redirect.path_prefix is not None and route.match.where.prefix is None:
        message = "`path_prefix` replaces the prefix that matched, but the route does not match by prefix"
        yield Problem("GW218", (*path, "path_prefix"), message, "write `path`, or match by `prefix`")
    elif not written_in(redirect) - {"status"}:
        yield Problem(
            "GW218",
            path,
            "the redirect leads to the same place",
            "write scheme, host, port, path, path_prefix or path_regex",
        )


def _methods(methods: tuple[str, ...], path: Path) -> Iterator[Problem]:
    for index, method in enumerate(methods):
        if method not in METHODS:
            close = closest(method, METHODS)
            help_ = f"did you mean '{close}'?" if close else ""
            yield Problem("GW216", (*path, index), f"'{method}' is not a known HTTP method", help_, "warning")


def _timeouts(route: ResolvedRoute) -> Iterator[Problem]:
    """Said where it can be mended: at the route, if the retry or the timeout is its own."""
    retry, request = route.retry, route.timeouts.request
    own = route.route.retry is not None or route.route.timeouts is not None
    if own and retry is not None and retry.per_try_timeout is not None and 0 < request < retry.per_try_timeout:
        message = f"per_try_timeout ({retry.per_try_timeout} ms) is longer than the request's timeout ({request} ms)"
        yield Problem("GW215", route.path, message, "make timeouts.request the longer one", "warning")


# ---------------------------------------------------------------------------------------------------------- conflicts
def _same_match(scope: Scope) -> Iterator[Problem]:
    """Two routes of one listener and host that match exactly the same: the second could never be reached."""
    first: dict[tuple[object, ...], ResolvedRoute] = {}
    by_method: dict[tuple[object, ...], ResolvedRoute] = {}
    for route in scope.routes:
        key = match_key(route.match)
        methods = frozenset(route.match.methods)
        for host in route.hosts:
            here = (route.listener, host, route.route.priority or 0, *key)
            before = first.setdefault((*here, methods), route)
            if before is not route:
                yield _identical(route, before, host)
                break
            yield from _overlap(by_method, here, route)


def _identical(route: ResolvedRoute, before: ResolvedRoute, host: str) -> Problem:
    message = f"matches exactly what {dotted(before.path)} matches on host '{host}'"
    help_ = "change one of the two matches, or order them by `priority`"
    return Problem("GW211", (*route.path, "match"), message, help_)


def _overlap(
    seen: dict[tuple[object, ...], ResolvedRoute], here: tuple[object, ...], route: ResolvedRoute
) -> Iterator[Problem]:
    """Routes that differ only in their methods and share one: the order of their names decides, which nobody meant."""
    for method in route.match.methods:
        before = seen.setdefault((*here, method), route)
        if before is not route:
            message = f"{dotted(before.path)} takes every {method} that this route matches"
            yield Problem(
                "GW212", (*route.path, "match", "methods"), message, "name each method in one of them", "warning"
            )
            return


def match_key(match: Match) -> tuple[object, ...]:
    """Equal for matches that take the same requests, methods aside: variables have no names, order does not count."""
    kind, text = written(match.where)
    if kind == "template":
        text = shape(text)
    elif kind == "prefix":
        text = text.rstrip("/")
    values = (_values(match.headers), _values(match.query), _values(match.cookies))
    return (kind, text, match.grpc is not None, *values)


def _values(matches: dict[str, ValueMatch]) -> tuple[object, ...]:
    return tuple(sorted((name, *map(str, _value(value))) for name, value in matches.items())) if matches else ()


def _value(match: ValueMatch) -> tuple[object, ...]:
    return (match.exact, match.prefix, match.suffix, match.contains, match.regex, match.present, match.optional)
