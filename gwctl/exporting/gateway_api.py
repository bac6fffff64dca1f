"""A document as Gateway API, with Envoy Gateway's Backend and SecurityPolicy.

A route that would be open to more callers there than here has no backends there, which answers 500.
"""

import re
from typing import Any, Final

from gwctl.importing.source import Source

GROUP: Final = "gateway.networking.k8s.io"
EG: Final = "gateway.envoyproxy.io"
NO_PLACE: Final = "Gateway API has no place for it"

_VARIABLE: Final = re.compile(r"\{(\w+(?:=\*\*?)?)\}")

Json = dict[str, Any]


class LeftOut(Exception):  # noqa: N818 - not an error: the reason why a route is not in the result
    pass


def convert(source: Source) -> list[Json]:
    """Kubernetes objects."""
    gateway = {
        "gatewayClassName": "envoy-gateway",
        "listeners": [_listener(*one) for one in source["listeners"].items()],
    }
    made = [_object("v1", "Gateway", "gateway", gateway)]
    made += [_backend(*one) for one in source["upstreams"].items()]
    lowest = next(iter(source["tiers"].value or ()), None)
    for name, module in source["modules"].items():
        for route_name, route in module["routes"].items():
            made += _route_or_none(source, lowest, f"{name}-{route_name}", module, route)
        for word in ("tier", "listener", "hosts", "authentication"):
            module[word].rest("no route has it")
    source.rest(NO_PLACE)
    return made


def _object(version: str, kind: str, name: str, spec: Json, group: str = GROUP) -> Json:
    metadata = {"name": name.replace("_", "-")}
    return {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": metadata, "spec": spec}


def _listener(name: str, listener: Source) -> Json:
    protocol = listener["protocol"].text("HTTP")
    made: Json = {"name": name.replace("_", "-"), "port": listener["port"].number(), "protocol": protocol}
    certificates = [one["secret"].text() for one in listener.at("tls", "certificates").each() if one["secret"]]
    if protocol == "HTTPS":
        made["tls"] = {
            "mode": "Terminate",
            "certificateRefs": [{"kind": "Secret", "name": one} for one in certificates],
        }
    return made


def _backend(name: str, upstream: Source) -> Json:
    upstream.drop("type")
    if upstream["host"]:
        place = {"hostname": upstream["host"].text(), "port": upstream["port"].number()}
        endpoints: list[Json] = [{"fqdn": place}]
    else:
        endpoints = [
            {"ip": {"address": one["address"].text(), "port": one["port"].number()}}
            for one in upstream["endpoints"].each()
        ]
    upstream["tls"].rest("write a BackendTLSPolicy")
    upstream.rest("write a BackendTrafficPolicy")
    return _object("v1alpha1", "Backend", name, {"endpoints": endpoints}, EG)


def _route_or_none(source: Source, lowest: str | None, name: str, module: Source, route: Source) -> list[Json]:
    """A route that cannot be said is there without backends, so that no wider one gets its requests."""
    try:
        return _route(source, lowest, name, module, route)
    except LeftOut as why:
        reason = str(why)
    try:
        closed = [_http_route(name, module, {"matches": _matches(route["match"])})]
    except LeftOut:
        route.lose(f"{reason}: the route is left out, and a wider one may get its requests")
        return []
    route.lose(f"{reason}: the route has no backends, and answers 500")
    return closed


def _route(source: Source, lowest: str | None, name: str, module: Source, route: Source) -> list[Json]:
    if module["tier"].value != lowest:
        raise LeftOut("there are no tiers, and everybody could call it")
    if any(one["authorization"].value for one in (route, module, source["floor"])):
        raise LeftOut("its authorization cannot be said, and everybody could call it")
    providers = _providers(source, route["authentication"] or module["authentication"])
    module["tier"].take()
    made = [_http_route(name, module, {"matches": _matches(route["match"]), **_action(route)})]
    if providers:
        target = {"group": GROUP, "kind": "HTTPRoute", "name": name.replace("_", "-")}
        policy = {"targetRefs": [target], "jwt": {"providers": providers}}
        made.append(_object("v1alpha1", "SecurityPolicy", name, policy, EG))
    return made


def _http_route(name: str, module: Source, rule: Json) -> Json:
    spec: Json = {"parentRefs": [{"name": "gateway", "sectionName": module["listener"].text().replace("_", "-")}]}
    hosts = [host for host in module["hosts"].texts() if host != "*"]
    if hosts:
        spec["hostnames"] = hosts
    return _object("v1", "HTTPRoute", name, {**spec, "rules": [rule]})


def _providers(source: Source, authentication: Source) -> list[Json]:
    """Those of the route's SecurityPolicy; none for a route that is open."""
    if authentication.value == "none":
        authentication.take()
        return []
    names = [str(one.value) for one in authentication["any_of"].each()]
    if not names or authentication["optional"].value:
        raise LeftOut("its authentication cannot be said")
    made = [_provider(name, source.at("jwt_providers", name)) for name in names]
    authentication.take()
    return made


def _provider(name: str, provider: Source) -> Json:
    keys = provider["jwks"]
    if not keys["uri"] and not keys["inline"]:
        raise LeftOut(f"{name} cannot be said as a provider of a SecurityPolicy")
    made: Json = {"name": name, "issuer": provider["issuer"].text(), "audiences": provider["audiences"].texts()}
    if keys["uri"]:
        made["remoteJWKS"] = {"uri": keys["uri"].text()}
    else:
        made["localJWKS"] = {"type": "Inline", "inline": keys["inline"].text()}
    headers = [{"claim": claim, "header": one.text()} for claim, one in provider["claims_to_headers"].items()]
    return made | ({"claimToHeaders": headers} if headers else {})


def _matches(match: Source) -> list[Json]:
    if match["cookies"].value or match["grpc"].value:
        raise LeftOut("its match cannot be said")
    one: Json = {"path": _path(match["path"])}
    headers, query = _values(match["headers"]), _values(match["query"])
    if headers:
        one["headers"] = headers
    if query:
        one["queryParams"] = query
    return [one | {"method": method} for method in match["methods"].texts()] or [one]


def _path(path: Source) -> Json:
    for word, kind in (("exact", "Exact"), ("prefix", "PathPrefix"), ("regex", "RegularExpression")):
        if path[word]:
            return {"type": kind, "value": path[word].text()}
    return {"type": "RegularExpression", "value": _template(path["template"])}


def _template(template: Source) -> str:
    """`{id}` is a segment, `{rest=**}` all that is left."""
    pieces = _VARIABLE.split(str(template.value or ""))
    if template.value is None or any("{" in piece or "*" in piece for piece in pieces[::2]):
        raise LeftOut("its path cannot be said")
    template.take()
    return "".join(
        re.escape(piece) if at % 2 == 0 else (".*" if piece.endswith("=**") else "[^/]+")
        for at, piece in enumerate(pieces)
    )


def _values(values: Source) -> list[Json]:
    made = []
    for name, value in values.items():
        if (not value["exact"] and not value["regex"]) or value["optional"].value:
            raise LeftOut("its match cannot be said")
        kind = "Exact" if value["exact"] else "RegularExpression"
        made.append({"name": name, "type": kind, "value": (value["exact"] or value["regex"]).text()})
    return made


def _action(route: Source) -> Json:
    if route["respond"].value is not None:
        raise LeftOut("a gateway that answers by itself is Envoy Gateway's HTTPRouteFilter")
    filters = _filters(route)
    made: Json = {"filters": filters} if filters else {}
    if not route["redirect"]:
        made["backendRefs"] = [_reference(one) for one in route["backends"].each()]
    request = route.at("timeouts", "request").text()
    return made | ({"timeouts": {"request": request}} if request else {})


def _reference(backend: Source) -> Json:
    weight = backend["weight"].number()
    if backend["request_headers"].value or backend["response_headers"].value:
        raise LeftOut("a backend's own header edits cannot be said")
    made = {"group": EG, "kind": "Backend", "name": backend["upstream"].text().replace("_", "-")}
    return made | ({} if weight is None else {"weight": weight})


def _filters(route: Source) -> list[Json]:
    made: list[Json] = []
    for word, kind in (("request_headers", "RequestHeaderModifier"), ("response_headers", "ResponseHeaderModifier")):
        edits = _edits(route[word])
        if edits:
            made.append({"type": kind, kind[0].lower() + kind[1:]: edits})
    if route["redirect"]:
        made.append({"type": "RequestRedirect", "requestRedirect": _redirect(route["redirect"])})
    if route["rewrite"]:
        made.append({"type": "URLRewrite", "urlRewrite": _rewrite(route["rewrite"])})
    return made


def _edits(edits: Source) -> Json:
    made: Json = {}
    for word in ("set", "add"):
        found = [{"name": name, "value": value.text()} for name, value in edits[word].items()]
        if found:
            made[word] = found
    removed = edits["remove"].texts()
    return made | ({"remove": removed} if removed else {})


def _redirect(redirect: Source) -> Json:
    if redirect["path_regex"].value:
        raise LeftOut("a redirect by a regular expression cannot be said")
    made: Json = {"statusCode": redirect["status"].number() or 302}
    for word, theirs in (("scheme", "scheme"), ("host", "hostname")):
        if redirect[word]:
            made[theirs] = redirect[word].text()
    if redirect["port"]:
        made["port"] = redirect["port"].number()
    return made | _path_change(redirect["path"], redirect["path_prefix"])


def _rewrite(rewrite: Source) -> Json:
    path = rewrite["path"]
    if path["template"].value or path["regex"].value or rewrite["auto_host"].value:
        raise LeftOut("its rewrite cannot be said")
    made: Json = {"hostname": rewrite["host"].text()} if rewrite["host"] else {}
    return made | _path_change(path["exact"], path["prefix"])


def _path_change(full: Source, prefix: Source) -> Json:
    if full:
        return {"path": {"type": "ReplaceFullPath", "replaceFullPath": full.text()}}
    if prefix:
        return {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": prefix.text()}}
    return {}
