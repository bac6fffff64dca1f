"""The rules of HTTPRoute and GRPCRoute as routes."""

from collections.abc import Callable, Iterator
from typing import Final

from gwctl.importing.draft import Json, closed, duration, has
from gwctl.importing.envoy_routes import LeftOut
from gwctl.importing.patterns import re2_problem
from gwctl.importing.source import Source

Backends = Callable[[Source], list[Json] | None]
_MATCH: Final = ("modules", "*", "routes", "*", "match")


class _Closed(Exception):  # noqa: N818 - the route is made, and lets nobody in
    pass


def rule_matches(kind: str, rule: Source) -> Iterator[Callable[[], Json]]:
    """The matches of a rule, one of which is enough: each is a route. They raise LeftOut when called."""
    one = _http_match if kind == "HTTPRoute" else _grpc_match
    found = rule["matches"].each()
    if not found:
        yield lambda: {"path": {"prefix": "/"}}
    for match in found:
        yield lambda match=match: one(match)  # type: ignore[misc]


def _http_match(match: Source) -> Json:
    made: Json = {"path": _path(match["path"])}
    method = match["method"].text()
    if method:
        made["methods"] = [method]
    headers = _values(match["headers"], lower=True)
    query = _values(match["queryParams"], lower=False)
    return made | ({"headers": headers} if headers else {}) | ({"query": query} if query else {})


def _grpc_match(match: Source) -> Json:
    method = match["method"]
    if method["type"].text("Exact") != "Exact":
        raise LeftOut("a gRPC method that must match a regular expression")
    service, name = method["service"].text(), method["method"].text()
    headers = _values(match["headers"], lower=True)
    more = {"headers": headers} if headers else {}
    if name and not service:
        raise LeftOut("a gRPC method of any service")
    if service and has("grpc", *_MATCH):
        return {"grpc": {"service": service, **({"method": name} if name else {})}, **more}
    path = {"exact": f"/{service}/{name}"} if name else {"prefix": f"/{service}"}
    return {"path": path, "methods": ["POST"], **more}


def _path(path: Source) -> Json:
    kind, value = path["type"].text("PathPrefix"), path["value"].text("/")
    if kind == "Exact":
        return {"exact": value}
    if kind == "PathPrefix":
        return {"prefix": value.rstrip("/") or "/"}
    problem = re2_problem(value)
    if kind != "RegularExpression" or problem:
        raise LeftOut(f"a path of the type {kind} ({problem or 'unknown'})")
    return {"regex": value}


def _values(entries: Source, *, lower: bool) -> Json:
    made: Json = {}
    for entry in entries.each():
        name, kind, value = entry["name"].text(), entry["type"].text("Exact"), entry["value"].text()
        if kind not in ("Exact", "RegularExpression") or (kind != "Exact" and re2_problem(value)):
            raise LeftOut("a value that cannot be matched like that")
        made[name.lower() if lower else name] = {"exact": value} if kind == "Exact" else {"regex": value}
    return made


# --------------------------------------------------------------------------------------------------------------- rules
def http_rule(rule: Source, match: Json, backends: Backends) -> Json:
    """The route of one match, with what the rule does."""
    route: Json = {"match": match}
    try:
        for entry in rule["filters"].each():
            _filter(entry, route, match, backends)
        if "redirect" not in route:
            route["backends"] = _backends(rule["backendRefs"], backends)
    except _Closed as why:
        return closed(match, str(why))
    if "redirect" in route:
        for word in ("backends", "rewrite", "mirror"):
            route.pop(word, None)
    return route | _timeouts(rule["timeouts"]) | _retry(rule["retry"])


def _backends(references: Source, backends: Backends) -> list[Json]:
    found: list[Json] = []
    for reference in references.each():
        weight = reference["weight"].number()
        mine = backends(reference)
        if mine is None:
            reference.lose("it is not here: the route refuses everybody")
            raise _Closed("a backend could not be converted")
        if reference["filters"].value:
            reference["filters"].lose("filters of one backend: the route refuses everybody")
            raise _Closed("a backend's filters could not be converted")
        found += [backend | ({} if weight is None else {"weight": weight}) for backend in mine]
    if not found:
        raise _Closed("the rule has no backends, which Gateway API answers with 500")
    return found


def _filter(entry: Source, route: Json, match: Json, backends: Backends) -> None:
    kind = entry["type"].text()
    if kind in ("RequestHeaderModifier", "ResponseHeaderModifier"):
        word = "request_headers" if kind.startswith("Request") else "response_headers"
        route[word] = _edits(entry[word.replace("_headers", "HeaderModifier")])
    elif kind == "RequestRedirect":
        route["redirect"] = _redirect(entry["requestRedirect"])
    elif kind == "URLRewrite":
        route["rewrite"] = _rewrite(entry["urlRewrite"], match)
    elif kind == "RequestMirror":
        _mirror(entry["requestMirror"], route, backends)
    else:
        entry.lose(f"there is no filter {kind}: the route refuses everybody")
        raise _Closed(f"the filter {kind} could not be converted")


def _edits(modifier: Source) -> Json:
    made: Json = {}
    for word in ("set", "add"):
        found = {one["name"].text().lower(): one["value"].text() for one in modifier[word].each()}
        if found:
            made[word] = found
    removed = [name.lower() for name in modifier["remove"].texts()]
    return made | ({"remove": removed} if removed else {})


def _redirect(redirect: Source) -> Json:
    made: Json = {}
    path = redirect["path"]
    for word, value in (
        ("scheme", redirect["scheme"].text()),
        ("host", redirect["hostname"].text()),
        ("port", redirect["port"].number()),
        ("path", path["replaceFullPath"].text()),
        ("path_prefix", path["replacePrefixMatch"].text()),
    ):
        if value:
            made[word] = value
    path.drop("type")
    return made | {"status": redirect["statusCode"].number() or 302}


def _rewrite(rewrite: Source, match: Json) -> Json:
    made: Json = {}
    host, path = rewrite["hostname"].text(), rewrite["path"]
    full, prefix = path["replaceFullPath"].text(), path["replacePrefixMatch"].text()
    path.drop("type")
    if full:
        made["path"] = {"exact": full}
    elif prefix and "prefix" not in match.get("path", {}):
        rewrite.lose("there is no prefix to replace: the route refuses everybody")
        raise _Closed("the path could not be rewritten")
    elif prefix:
        made["path"] = {"prefix": prefix.rstrip("/") or "/"}
    return made | ({"host": host} if host else {})


def _mirror(mirror: Source, route: Json, backends: Backends) -> None:
    found = backends(mirror["backendRef"])
    if "mirror" in route or not found:
        mirror.lose("one mirror, to what is here, is all that a route has")
        return
    fraction = mirror["fraction"]
    percent = mirror["percent"].number()
    if fraction:
        percent = round(100 * (fraction["numerator"].number() or 0) / (fraction["denominator"].number() or 100))
    route["mirror"] = {"upstream": found[0]["upstream"], **({} if percent is None else {"percent": f"{percent}%"})}


def _timeouts(timeouts: Source) -> Json:
    written = timeouts["request"].text()
    found = duration(written) if written else None
    if written and not found:
        timeouts["request"].lose("no limit at all cannot be said")
    timeouts["backendRequest"].rest("`retry.per_try_timeout` says it")
    return {"timeouts": {"request": found}} if found else {}


def _retry(retry: Source) -> Json:
    if not retry:
        return {}
    codes = [number for code in retry["codes"].each() if (number := code.number())]
    attempts = retry["attempts"].number()
    base = duration(retry["backoff"].text())
    made: Json = {"attempts": min(10, attempts or 1)}
    return {"retry": made | ({"codes": codes} if codes else {}) | ({"backoff": {"base": base}} if base else {})}
