"""A document as OpenAPI 3.1: what callers see of it."""

import re
from typing import Any, Final

from gwctl.importing.source import Source

INSIDE: Final = "OpenAPI says what callers see, not what the gateway does"
METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch")
_VARIABLE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")

Json = dict[str, Any]


def convert(source: Source) -> list[Json]:
    """One OpenAPI document."""
    paths: Json = {}
    servers: list[str] = []
    for name, module in source["modules"].items():
        servers += _servers(source, module)
        for route_name, route in module["routes"].items():
            _route(paths, f"{name}-{route_name}", module, route)
        module["authentication"].rest("no operation has it")
    made: Json = {"openapi": "3.1.0", "info": {"title": "Gateway", "version": "1"}}
    if servers:
        made["servers"] = [{"url": url} for url in dict.fromkeys(servers)]
    made["paths"] = paths
    schemes = _schemes(source)
    source.rest(INSIDE)
    return [made | ({"components": {"securitySchemes": schemes}} if schemes else {})]


def _servers(source: Source, module: Source) -> list[str]:
    listener = source.at("listeners", module["listener"].text())
    protocol, port = listener["protocol"].text("HTTP").lower(), listener["port"].number()
    usual = {"http": 80, "https": 443}[protocol]
    suffix = "" if port == usual else f":{port}"
    found = []
    for host in module["hosts"].each():
        if "*" in str(host.value):
            host.lose("a server of OpenAPI has a name")
        else:
            found.append(f"{protocol}://{host.text()}{suffix}")
    return found


def _route(paths: Json, name: str, module: Source, route: Source) -> None:
    match = route["match"]
    path = _path(match["path"])
    if path is None:
        route.lose("OpenAPI has paths and templates only")
        return
    methods = [method.lower() for method in match["methods"].texts()] or list(METHODS)
    for word in ("headers", "query", "cookies"):
        match[word].rest("OpenAPI does not choose operations by it")
    item = paths.setdefault(path, {})
    for method in methods:
        if method in item or method not in (*METHODS, "trace"):
            match["methods"].lose(f"{method.upper()} is another route's, or none of OpenAPI's")
            continue
        item[method] = _operation(name if len(methods) == 1 else f"{name}-{method}", path, module, route)


def _path(path: Source) -> str | None:
    if path["exact"]:
        return path["exact"].text()
    template = str(path["template"].value or "")
    if template and "{" not in _VARIABLE.sub("", template) and "*" not in template:
        return path["template"].text()
    return None


def _operation(name: str, path: str, module: Source, route: Source) -> Json:
    made: Json = {"operationId": name}
    summary = route["description"].text()
    if summary:
        made["summary"] = summary
    variables = _VARIABLE.findall(path)
    if variables:
        made["parameters"] = [
            {"name": one, "in": "path", "required": True, "schema": {"type": "string"}} for one in variables
        ]
    made["security"] = _security(route["authentication"] or module["authentication"])
    return made | {"responses": {"default": {"description": "What the upstream answers."}}}


def _security(authentication: Source) -> list[Json]:
    if authentication.value == "none":
        authentication.take()
        return []
    made: list[Json] = [{name: []} for name in authentication["any_of"].texts()]
    every = authentication["all_of"].texts()
    if every:
        made.append({name: [] for name in every})
    if authentication["optional"].flag(default=False):
        made.append({})
    return made


def _schemes(source: Source) -> Json:
    made: Json = {}
    for name, provider in source["jwt_providers"].items():
        made[name] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        provider.rest(INSIDE)
    for name, keys in source["api_keys"].items():
        headers = keys.at("from", "headers").texts() or ["x-api-key"]
        made[name] = {"type": "apiKey", "in": "header", "name": headers[0]}
        if len(headers) > 1 or keys.at("from", "query") or keys.at("from", "cookies"):
            keys["from"].change("one place of the key is all that a scheme has")
        keys.rest(INSIDE)
    for name, users in source["basic_auth"].items():
        made[name] = {"type": "http", "scheme": "basic"}
        users.rest(INSIDE)
    for word, kind in (("client_certificates", "mutualTLS"), ("oidc", None)):
        for name, one in source[word].items():
            made[name] = {"type": kind} if kind else {"type": "apiKey", "in": "cookie", "name": name}
            one.rest(INSIDE)
    return made
