"""OpenAPI 3.0 and 3.1: servers become upstreams, operations routes, security schemes ways to tell who is calling."""

import re
from typing import Any, Final

from gwctl.importing.draft import ANYWHERE, Draft, Json, add_route, closed, has, tls_to, url_parts
from gwctl.importing.source import Source

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
NOT_CHECKED: Final = "the gateway does not check what requests and answers hold"
FOR_PEOPLE: Final = "documentation: the gateway has no place for it"
_VARIABLE: Final = re.compile(r"\{([^}]*)\}")


class _Closed(Exception):  # noqa: N818 - not an error: the route is made, and lets nobody in
    pass


def convert(source: Source) -> Json:
    """The document as ours. What could not be said is in the source's ledger."""
    draft = Draft()
    source.drop("openapi")
    title = source.at("info", "title").text("api")
    for word in ("info", "tags", "externalDocs", "webhooks"):
        source[word].rest(FOR_PEOPLE)
    schemes = _schemes(draft, source.at("components", "securitySchemes"))
    source["components"].rest(NOT_CHECKED)
    module = draft.module(title, draft.listener("http", 8080))
    upstream, base = _server(draft, title, source["servers"])
    for path, item in source["paths"].items():
        _path_item(draft, module, schemes, (upstream, base), path, item, source["security"])
    source["security"].rest("no operation uses it")
    return draft.document()


# ------------------------------------------------------------------------------------------------------------- servers
def _server(draft: Draft, title: str, servers: Source) -> tuple[str, str]:
    """The upstream, and the path that the server's URL puts before every path."""
    first, *rest = servers.each() or [servers]
    for other in rest:
        other.lose("another server of the same API: requests go to the first one")
    written = first["url"].text("/")
    url = _VARIABLE.sub(lambda found: first.at("variables", found[1], "default").text(found[1]), written)
    first["variables"].rest("the server's URL has the default value")
    first["description"].rest(FOR_PEOPLE)
    host, port, secure, path = url_parts(url)
    base = path.rstrip("/")
    if not host:
        first["url"].need(f"no host is named: the upstream is {ANYWHERE}:8081 until you say which")
        return draft.upstream(title, ANYWHERE, 8081), base
    return draft.upstream(host, host, port, {"tls": tls_to(host)} if secure else {}), base


# ---------------------------------------------------------------------------------------------------------- operations
def _path_item(
    draft: Draft, module: Json, schemes: Json, target: tuple[str, str], path: str, item: Source, security: Source
) -> None:
    upstream, base = target
    for servers in (item["servers"], *(item[method]["servers"] for method in METHODS)):
        servers.lose("requests go to the document's first server")
    match = _match(base + path)
    for method in METHODS:
        operation = item[method]
        if operation:
            wanted = operation["operationId"].text(f"{method}-{path}")
            add_route(module, wanted, _route(operation, method, match, upstream, schemes, security))
            operation.rest(NOT_CHECKED)
    for word in ("summary", "description"):
        item[word].rest(FOR_PEOPLE)
    item.rest(NOT_CHECKED)


def _route(operation: Source, method: str, match: Json, upstream: str, schemes: Json, security: Source) -> Json:
    matched = match | {"methods": [method.upper()]}
    own = operation["security"] if "security" in operation else security  # noqa: SIM401 - no dict: it has no `get`
    summary = operation["summary"].text() or operation["description"].text()
    for word in ("description", "tags", "externalDocs", "deprecated"):
        operation[word].rest(FOR_PEOPLE)
    try:
        route: Json = {"match": matched, "backends": [{"upstream": upstream}], **_security(own, schemes)}
    except _Closed as refused:
        own.lose(f"{refused}: the route refuses everybody")
        return closed(matched, str(refused))
    return route | ({"description": " ".join(summary.split())[:500]} if summary else {})


def _match(path: str) -> Json:
    """`/pets/{petId}` is a template; what a template cannot say (`/report.{format}`) is a regular expression."""
    if "{" not in path:
        return {"path": {"exact": path}}
    segments = path.split("/")[1:]
    if all(_VARIABLE.fullmatch(part) or "{" not in part for part in segments):
        names: list[str] = []
        return {"path": {"template": "".join("/" + _segment(part, names) for part in segments)}}
    pieces = _VARIABLE.split(path)
    return {"path": {"regex": "".join(re.escape(p) if at % 2 == 0 else "[^/]+" for at, p in enumerate(pieces))}}


def _segment(part: str, names: list[str]) -> str:
    found = _VARIABLE.fullmatch(part)
    if not found:
        return part
    name = re.sub(r"\W+", "_", found[1], flags=re.ASCII) or "value"
    name = f"v_{name}" if not name[0].isalpha() else name
    names.append(name)
    count = names.count(name)
    return "{" + (name if count == 1 else f"{name}_{count}") + "}"


# ------------------------------------------------------------------------------------------------------------ security
def _schemes(draft: Draft, schemes: Source) -> Json:
    """The name of the provider or key source that each scheme has become; None for one that the language lacks."""
    found: Json = {}
    for name, scheme in schemes.items():
        found[name] = _scheme(draft, name, scheme)
        scheme.rest(FOR_PEOPLE)
    return found


def _scheme(draft: Draft, name: str, scheme: Source) -> str | None:
    kind, how = scheme["type"].text(), scheme["scheme"].text().lower()
    if kind == "apiKey":
        return _api_key(draft, name, scheme)
    if (kind, how) == ("http", "basic") and has("users_secret", "basic_auth", "*"):
        scheme["type"].need(f"put the users into the secret {name}")
        secret = draft.name("basic_auth", name)
        return draft.add("basic_auth", name, {"users_secret": secret})
    if (kind, how) == ("http", "bearer") or kind in ("oauth2", "openIdConnect"):
        return _jwt(draft, name, scheme)
    scheme.lose("the language has no such way to tell who is calling")
    return None


def _api_key(draft: Draft, name: str, scheme: Source) -> str | None:
    where, parameter = scheme["in"].text(), scheme["name"].text()
    word = {"header": "headers", "query": "query", "cookie": "cookies"}.get(where)
    if word is None or not has(word, "api_keys", "*", "from"):
        scheme.lose(f"an API key in the {where or 'request'} cannot be said")
        return None
    scheme["type"].need("create the keys with `gwctl keys create`")
    body: Any = [parameter.lower()] if word == "headers" else [parameter]
    return draft.add("api_keys", name, {"from": {word: body}})


def _jwt(draft: Draft, name: str, scheme: Source) -> str:
    url = scheme["openIdConnectUrl"].text()
    issuer = url.removesuffix("/.well-known/openid-configuration") or "https://issuer.example/"
    secret = draft.name("jwt_providers", name)
    scheme["type"].need("fill in the provider's issuer, audiences and jwks: the document does not say them")
    body = {"issuer": issuer, "audiences": [secret], "jwks": {"hs256": {"secret": secret}}}
    return draft.add("jwt_providers", name, body)


def _security(security: Source, schemes: Json) -> Json:
    """`authentication` and `authorization` of a route. Raises _Closed for what would have to be left open."""
    requirements = security.each()
    ways = [[(name, scopes.texts()) for name, scopes in one.items()] for one in requirements if one.value != {}]
    for name in dict.fromkeys(name for way in ways for name, _ in way):
        if schemes.get(name) is None:
            raise _Closed(f"the security scheme {name!r} could not be converted")
    security.take()
    if not ways:
        return {"authentication": "none"}
    authentication = _authentication(ways, schemes)
    if len(ways) < len(requirements):  # `{}`: who has no credentials is let in, and needs no scopes
        if not has("optional", "modules", "*", "authentication") or "any_of" not in authentication:
            raise _Closed("credentials that may be left out")
        return {"authentication": authentication | {"optional": True}}
    return {"authentication": authentication, **_scopes(security, ways)}


def _authentication(ways: list[list[tuple[str, list[str]]]], schemes: Json) -> Json:
    if all(len(way) == 1 for way in ways):
        return {"any_of": list(dict.fromkeys(schemes[way[0][0]] for way in ways))}
    if len(ways) > 1:
        raise _Closed("alternatives of several security schemes at once")
    if not has("all_of", "modules", "*", "authentication"):
        raise _Closed("several security schemes at once")
    return {"all_of": [schemes[name] for name, _ in ways[0]]}


def _scopes(security: Source, ways: list[list[tuple[str, list[str]]]]) -> Json:
    wanted = [[scope for _, scopes in way for scope in scopes] for way in ways]
    if not any(wanted):
        return {}
    if not all(wanted):
        security.change("callers without scopes (an API key) are refused too: the rules ask everybody for scopes")
    rules = [{"name": f"scopes-{n}", "action": "allow", "scopes": s} for n, s in enumerate(filter(None, wanted), 1)]
    return {"authorization": {"default_action": "deny", "rules": rules}}
