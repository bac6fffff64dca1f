"""Envoy's virtual hosts and routes. A route whose match cannot be said is left out: it would match more, or less."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gwctl.importing.draft import Json, add_route, closed, duration, has
from gwctl.importing.patterns import re2_problem
from gwctl.importing.source import Source

NO_PLACE: Final = "the gateway has no place for it"
CONDITIONS: Final = {
    "connect-failure": "connect_failure",
    "reset": "reset",
    "refused-stream": "refused_stream",
    "gateway-error": "gateway_error",
    "5xx": "5xx",
    "retriable-4xx": "retriable_4xx",
    "cancelled": "cancelled",
    "deadline-exceeded": "deadline_exceeded",
    "internal": "internal",
    "resource-exhausted": "resource_exhausted",
    "unavailable": "unavailable",
}
REDIRECT_STATUS: Final = {
    "MOVED_PERMANENTLY": 301,
    "FOUND": 302,
    "SEE_OTHER": 303,
    "TEMPORARY_REDIRECT": 307,
    "PERMANENT_REDIRECT": 308,
}
_ROUTE: Final = ("modules", "*", "routes", "*")


class LeftOut(Exception):  # noqa: N818 - not an error: the reason why a route is not in the result
    pass


class _Closed(Exception):  # noqa: N818 - the route is made, and lets nobody in
    pass


def hosts_of(domains: Source) -> list[str]:
    """Raises LeftOut if none of them can be said."""
    found = []
    for domain in domains.each():
        host = str(domain.value).rpartition(":")[0] if ":" in str(domain.value) else str(domain.value)
        if host != "*" and "*" in host.removeprefix("*."):
            domain.lose("a host is `name` or `*.name`")
            continue
        domain.take()
        found.append(host.lower())
    if not found:
        raise LeftOut("none of its domains can be said")
    return list(dict.fromkeys(found))


def routes_of(host: Source, module: Json, backends: Mapping[str, list[Json]], shut: str) -> None:
    """Puts the virtual host's routes into the module. `shut`: why all of them must refuse everybody."""
    if host["require_tls"].text("NONE") != "NONE":
        host["require_tls"].lose("a listener with `redirect` sends callers to https: the routes refuse everybody")
        shut = "the virtual host requires TLS"
    edits = _edits(host)
    for at, route in enumerate(host["routes"].each(), 1):
        name = route["name"].text(f"route-{at}")
        try:
            match = _match(route["match"])
            add_route(module, name, _route(route, match, edits, backends, shut))
        except LeftOut as why:
            route.lose(f"{why}: the route is left out")
        route.rest(NO_PLACE)
    host.rest(NO_PLACE)


def _route(route: Source, match: Json, outer: Json, backends: Mapping[str, list[Json]], shut: str) -> Json:
    made: Json = {"match": match}
    try:
        for word in route["typed_per_filter_config"].value or ():
            route.at("typed_per_filter_config", word).lose("settings of a filter")
        if shut:
            route.lose(f"{shut}: the route refuses everybody")
            raise _Closed(shut)
        made |= _action(route, match, backends)
    except _Closed as why:
        return closed(match, str(why))
    own = _edits(route)
    for word in ("request_headers", "response_headers"):
        merged = _merge(outer.get(word, {}), own.get(word, {}))
        if merged:
            made[word] = merged
    return made


def _merge(outer: Json, own: Json) -> Json:
    made: Json = {}
    for key in ("set", "add"):
        found = {**outer.get(key, {}), **own.get(key, {})}
        if found:
            made[key] = found
    removed = [*outer.get("remove", ()), *own.get("remove", ())]
    return made | ({"remove": list(dict.fromkeys(removed))} if removed else {})


# --------------------------------------------------------------------------------------------------------------- match
def _match(match: Source) -> Json:
    made: Json = {"path": _path(match)}
    for word in ("grpc", "runtime_fraction", "tls_context", "dynamic_metadata", "filter_state", "cookies"):
        if match[word]:
            raise LeftOut(f"`{word}` cannot be matched")
    if not match["case_sensitive"].flag(default=True):
        match["case_sensitive"].change("paths are compared with case")
    headers, query = {}, {}
    for header in match["headers"].each():
        name = header["name"].text().lower()
        if name == ":method":
            made["methods"] = [_method(header)]
        elif name.startswith(":"):
            raise LeftOut(f"{name} cannot be matched")
        else:
            headers[name] = _value(header)
    for parameter in match["query_parameters"].each():
        query[parameter["name"].text()] = _value(parameter)
    return made | ({"headers": headers} if headers else {}) | ({"query": query} if query else {})


def _path(match: Source) -> Json:
    if match["path"]:
        return {"exact": match["path"].text()}
    if match["path_separated_prefix"]:
        return {"prefix": match["path_separated_prefix"].text()}
    if "prefix" in match:
        prefix = match["prefix"].text()
        if prefix != "/":
            match["prefix"].change("Envoy's prefix ends anywhere in a segment; here it is whole segments")
        return {"prefix": prefix.rstrip("/") or "/"}
    pattern = match.at("safe_regex", "regex").text()
    match["safe_regex"].drop("google_re2")
    problem = re2_problem(pattern) if pattern else "there is none"
    if problem:
        raise LeftOut(f"the path cannot be said ({problem})")
    return {"regex": pattern}


def _method(header: Source) -> str:
    value = _value(header)
    if "exact" not in value:
        raise LeftOut("a method is matched by its name")
    return str(value["exact"])


def _value(matcher: Source) -> Json:
    if matcher["invert_match"].value:
        raise LeftOut("the opposite of a match cannot be said")
    for old, ours in (("exact_match", "exact"), ("prefix_match", "prefix"), ("suffix_match", "suffix")):
        if matcher[old]:
            return {ours: matcher[old].text()}
    if "present_match" in matcher:
        return {"present": matcher["present_match"].flag(default=True)}
    text = matcher["string_match"]
    if text["ignore_case"].value:
        raise LeftOut("values are compared with case")
    for ours in ("exact", "prefix", "suffix", "contains"):
        if text[ours]:
            return {ours: text[ours].text()}
    pattern = (text["safe_regex"] or matcher["safe_regex_match"])["regex"].text()
    if not pattern or re2_problem(pattern):
        raise LeftOut("a value cannot be matched like that")
    return {"regex": pattern}


# -------------------------------------------------------------------------------------------------------------- action
def _action(route: Source, match: Json, backends: Mapping[str, list[Json]]) -> Json:
    if route["redirect"]:
        return {"redirect": _redirect(route["redirect"])}
    if route["direct_response"]:
        answer = route["direct_response"]
        status = answer["status"].number() or 200
        return {"respond": {"status": status, "body": answer.at("body", "inline_string").text()}}
    action = route["route"]
    if not action:
        raise LeftOut("it has no action that can be said")
    made = {"backends": _targets(action, backends), **_timeouts(action)}
    retry = _retry(action["retry_policy"])
    rewrite = _rewrite(action, match)
    mirror = _mirror(action["request_mirror_policies"], backends)
    found = {"retry": retry, "rewrite": rewrite, "mirror": mirror}
    return made | {word: value for word, value in found.items() if value}


def _targets(action: Source, backends: Mapping[str, list[Json]]) -> list[Json]:
    if action["cluster"]:
        return _of_cluster(action["cluster"], backends)
    found = []
    for one in action.at("weighted_clusters", "clusters").each():
        weight = one["weight"].number()
        shared = {"weight": 1 if weight is None else weight}
        found += [backend | shared for backend in _of_cluster(one["name"], backends)]
    if not found:
        action.lose("the cluster cannot be said: the route refuses everybody")
        raise _Closed("its cluster could not be converted")
    return found


def _of_cluster(name: Source, backends: Mapping[str, list[Json]]) -> list[Json]:
    if str(name.value) not in backends:
        name.lose(f"the cluster {name.value} was not converted: the route refuses everybody")
        raise _Closed(f"the cluster {name.value} could not be converted")
    name.take()
    return backends[str(name.value)]


def _timeouts(action: Source) -> Json:
    made = {}
    for word, ours in (("timeout", "request"), ("idle_timeout", "idle")):
        written = action[word].text()
        found = duration(written) if written else None
        if found:
            made[ours] = found
        elif written:
            action[word].lose("no limit at all cannot be said")
    return {"timeouts": made} if made else {}


def _retry(policy: Source) -> Json:
    if not policy:
        return {}
    made: Json = {"attempts": min(10, policy["num_retries"].number() or 1)}
    written = [word.strip() for word in policy["retry_on"].text().split(",") if word.strip()]
    unknown = [word for word in written if word not in CONDITIONS and word != "retriable-status-codes"]
    if unknown:
        policy["retry_on"].change(f"without {', '.join(unknown)}")
    made["conditions"] = [CONDITIONS[word] for word in written if word in CONDITIONS]
    codes = [number for code in policy["retriable_status_codes"].each() if (number := code.number())]
    if codes:
        made["codes"] = codes
    per_try = duration(policy["per_try_timeout"].text())
    backoff = policy["retry_back_off"]
    waits = {"base": duration(backoff["base_interval"].text()), "max": duration(backoff["max_interval"].text())}
    found = {word: value for word, value in waits.items() if value}
    return made | ({"per_try_timeout": per_try} if per_try else {}) | ({"backoff": found} if found else {})


def _rewrite(action: Source, match: Json) -> Json:
    made: Json = {}
    prefix, pattern = action["prefix_rewrite"], action["regex_rewrite"]
    if prefix:
        word = "prefix" if "prefix" in match["path"] else "exact"
        if "regex" in match["path"]:
            prefix.lose("a prefix of a regular expression: the route refuses everybody")
            raise _Closed("the path could not be rewritten")
        made["path"] = {word: prefix.text().rstrip("/") or "/"}
    elif pattern:
        written = {"pattern": pattern.at("pattern", "regex").text(), "substitution": pattern["substitution"].text()}
        pattern["pattern"].drop("google_re2")
        made["path"] = {"regex": written}
    if action["host_rewrite_literal"]:
        made["host"] = action["host_rewrite_literal"].text()
    elif action["auto_host_rewrite"].flag(default=False) and has("auto_host", *_ROUTE, "rewrite"):
        made["auto_host"] = True
    return made


def _mirror(policies: Source, backends: Mapping[str, list[Json]]) -> Json:
    first, *rest = policies.each() or [policies]
    for other in rest:
        other.lose("one mirror is all that a route has")
    name = first["cluster"]
    if not name or str(name.value) not in backends:
        name.lose("the cluster was not converted")
        return {}
    name.take()
    share = first.at("runtime_fraction", "default_value")
    number = share["numerator"].number()
    scale = {"TEN_THOUSAND": 100, "MILLION": 10_000}.get(share["denominator"].text("HUNDRED"), 1)
    percent = {} if number is None else {"percent": f"{number / scale:g}%"}
    return {"upstream": backends[str(name.value)][0]["upstream"], **percent}


def _redirect(redirect: Source) -> Json:
    made: Json = {}
    scheme = "https" if redirect["https_redirect"].flag(default=False) else redirect["scheme_redirect"].text()
    for word, value in (
        ("scheme", scheme),
        ("host", redirect["host_redirect"].text()),
        ("port", redirect["port_redirect"].number()),
        ("path", redirect["path_redirect"].text()),
        ("path_prefix", redirect["prefix_rewrite"].text()),
    ):
        if value:
            made[word] = value
    return made | {"status": REDIRECT_STATUS.get(redirect["response_code"].text("MOVED_PERMANENTLY"), 301)}


def _edits(place: Source) -> Json:
    made: Json = {}
    for ours, added, removed in (
        ("request_headers", "request_headers_to_add", "request_headers_to_remove"),
        ("response_headers", "response_headers_to_add", "response_headers_to_remove"),
    ):
        edits = _added(place[added].each())
        gone = [name.lower() for name in place[removed].texts()]
        if gone:
            edits["remove"] = gone
        if edits:
            made[ours] = edits
    return made


def _added(entries: Sequence[Source]) -> Json:
    made: dict[str, Any] = {}
    for entry in entries:
        action = entry["append_action"].text("APPEND_IF_EXISTS_OR_ADD")
        if action == "ADD_IF_ABSENT":
            entry["append_action"].change("it is set even if it is there")
        append = entry["append"].flag(default=action == "APPEND_IF_EXISTS_OR_ADD")
        name, value = entry.at("header", "key").text().lower(), entry.at("header", "value").text()
        if "%" in value:
            entry.change("what Envoy fills in (`%…%`) may not be filled in here")
        made.setdefault("add" if append else "set", {})[name] = value
    return made
