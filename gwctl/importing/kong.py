"""Kong's declarative configuration: services and upstreams become upstreams, routes routes, plugins policies.

Kong's plugins apply to everything, a service or a route, the nearest one of a name: here each route has its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gwctl.importing.draft import Draft, Json, Place, add_route, closed, has, milliseconds, tls_to, url_parts
from gwctl.importing.kong_plugins import Closed, Plugins, apply_plugin
from gwctl.importing.patterns import full_match, re2_problem
from gwctl.importing.source import Source

CALLERS: Final = "callers and their keys live in the database: `gwctl keys create` makes new ones"
NO_TAGS: Final = "the gateway has no place for it"
HTTP: Final = frozenset({"http", "https", "grpc", "grpcs"})
_ALGORITHMS: Final = {"round-robin": "round_robin", "least-connections": "least_request"}


@dataclass
class _Context:
    draft: Draft
    plugins: Plugins
    targets: dict[str, list[Json]] = field(default_factory=dict)
    modules: dict[tuple[Any, ...], Json] = field(default_factory=dict)
    listeners: dict[str, str] = field(default_factory=dict)


def convert(source: Source) -> Json:
    source.drop("_format_version", "_transform")
    draft = Draft()
    context = _Context(draft, Plugins(draft))
    for upstream in source["upstreams"].each():
        _upstream(context, upstream)
    scoped = [*source["plugins"].each()]
    shared = [plugin for plugin in scoped if not any(plugin[word] for word in ("service", "route", "consumer"))]
    for service in source["services"].each():
        _service(context, service, source["routes"].each(), scoped, shared)
    for route in source["routes"].each():
        if not route["service"]:
            route.lose("a route without a service")
    for plugin in scoped:
        plugin.rest("it is for a consumer, or for nothing that is here")
    for word in ("consumers", "consumer_groups"):
        source[word].rest(CALLERS)
    source["certificates"].rest("put certificates into the secret store, and name them in the listener's `tls`")
    return draft.document()


# ----------------------------------------------------------------------------------------------------------- upstreams
def _upstream(context: _Context, upstream: Source) -> None:
    """Targets with addresses are endpoints of one upstream; each name is an upstream of its own, chosen by weight."""
    name = upstream["name"].text("upstream")
    policy = _ALGORITHMS.get(upstream["algorithm"].text("round-robin"))
    if policy is None:
        upstream["algorithm"].change("the requests are spread by turns")
    more = {"load_balancing": {"policy": policy or "round_robin"}}
    places = [_place(one) for one in upstream["targets"].each()]
    backends = context.draft.balanced(name, [place for place in places if place.weight], more)
    context.targets[name] = backends
    upstream["healthchecks"].rest("write the upstream's `health_check` and `outlier_detection`")
    upstream.rest(NO_TAGS)


def _place(target: Source) -> Place:
    host, colon, port = target["target"].text().rpartition(":")
    found = (host, int(port)) if colon and port.isdecimal() else (f"{host}{colon}{port}", 8000)
    weight = target["weight"].number()
    target["tags"].rest(NO_TAGS)
    return Place(*found, weight=100 if weight is None else weight)


# ------------------------------------------------------------------------------------------------------------ services
def _service(
    context: _Context, service: Source, routes: Iterable[Source], scoped: list[Source], shared: list[Source]
) -> None:
    name = service["name"].text("service")
    if not service["enabled"].flag(default=True):
        service.lose("it is not enabled")
        return
    parts = _url(service)
    if parts["protocol"] not in HTTP:
        service.lose(f"the gateway speaks HTTP, not {parts['protocol']}")
        return
    for word in ("tls_verify", "ca_certificates", "client_certificate", "tls_verify_depth"):
        service[word].rest("write the upstream's `tls`")
    own = [*service["plugins"].each(), *(one for one in scoped if _refers(one["service"], name) and not one["route"])]
    policies = _service_policies(service)
    backends = _backends(context, name, parts, service)
    mine = [*service["routes"].each(), *(route for route in routes if _refers(route["service"], name))]
    for route in mine:
        on_route = [
            *route["plugins"].each(),
            *(one for one in scoped if _refers(one["route"], str(route["name"].value))),
        ]
        _route(context, name, route, {"backends": backends, **policies}, parts, [shared, own, on_route])
    service["write_timeout"].rest("there is one time without a byte in either direction: `timeouts.idle`")
    service["routes"].rest(NO_TAGS)
    service["tags"].rest(NO_TAGS)


def _refers(reference: Source, name: str) -> bool:
    """`service: orders`, or `service: {name: orders}`."""
    written = reference["name"] if isinstance(reference.value, dict) else reference
    if written.value != name:
        return False
    written.take()
    return True


def _url(service: Source) -> Json:
    written = service["url"].text()
    host, port, _, path = url_parts(written)
    protocol = service["protocol"].text(written.partition("://")[0] or "http")
    secure = protocol in ("https", "grpcs")
    usual = port if written else 443 if secure else 80
    return {
        "protocol": protocol,
        "host": service["host"].text(host),
        "port": service["port"].number() or usual,
        "path": service["path"].text(path).rstrip("/"),
        "secure": secure,
    }


def _service_policies(service: Source) -> Json:
    policies: Json = {}
    idle, retries = service["read_timeout"].number(), service["retries"].number()
    if idle:
        policies["timeouts"] = {"idle": milliseconds(idle)}
    if retries is not None:
        policies["retry"] = {"attempts": min(10, retries)} if retries else "none"
        if retries > 10:
            service["retries"].change("10 are the most")
    return policies


def _backends(context: _Context, name: str, parts: Json, service: Source) -> list[Json]:
    more: Json = {}
    connect = service["connect_timeout"].number()
    if connect:
        more["connect_timeout"] = milliseconds(connect)
    if parts["protocol"] in ("grpc", "grpcs"):
        more["protocol"] = "grpc"
    if parts["host"] in context.targets:
        return _balanced(context, parts, more)
    if parts["secure"]:
        more["tls"] = tls_to(parts["host"])
    return [{"upstream": context.draft.upstream(name, parts["host"], parts["port"], more)}]


def _balanced(context: _Context, parts: Json, more: Json) -> list[Json]:
    """The upstreams of Kong's upstream, as this service speaks to them."""
    for backend in context.targets[parts["host"]]:
        body = context.draft.of("upstreams")[backend["upstream"]]
        body |= more
        if parts["secure"] and "host" in body:
            body["tls"] = tls_to(body["host"])
    return context.targets[parts["host"]]


# -------------------------------------------------------------------------------------------------------------- routes
def _route(
    context: _Context, service: str, route: Source, policies: Json, parts: Json, plugins: list[list[Source]]
) -> None:
    protocols = set(route["protocols"].texts()) or {"http", "https"}
    if not protocols & HTTP:
        route.lose("the gateway speaks HTTP")
        return
    route["https_redirect_status_code"].rest("a listener with `redirect` sends callers to https")
    hosts = _hosts(route)
    conditions = _conditions(route)
    if hosts is None or conditions is None or not policies["backends"]:
        route.lose("the route is left out")
        return
    if not protocols & {"http", "grpc"}:
        route["protocols"].need("put a certificate into the secret default-certificate, for the listener https")
    module = _module(context, service, hosts, secure=not protocols & {"http", "grpc"})
    name = route["name"].text(service)
    for path in route["paths"].each() or [route["paths"]]:
        made = _one_path(context, route, path, conditions, policies, parts, plugins)
        if made is not None:
            add_route(module, name, made)
    route["path_handling"].rest("the parts of a path are joined by one slash")
    route["regex_priority"].rest("the more specific route is tried first; `priority` changes that")
    route["strip_path"].take()
    route["preserve_host"].take()
    for word in ("tags", "service", "plugins"):
        route[word].rest(NO_TAGS)


def _one_path(
    context: _Context,
    route: Source,
    path: Source,
    conditions: Json,
    policies: Json,
    parts: Json,
    plugins: list[list[Source]],
) -> Json | None:
    matched, old = _path(path)
    if matched is None:
        return None
    match = {"path": matched, **conditions}
    try:
        made: Json = {"match": match, **policies}
        made |= _rewrite(context, route, path, old, parts, policies["backends"])
        for plugin in _nearest(plugins):
            apply_plugin(context.plugins, plugin, made)
    except Closed as refused:
        return closed(match, str(refused))
    if made.get("respond"):
        made = {key: value for key, value in made.items() if key not in ("backends", "rewrite", "retry")}
    return {"authentication": "none", **made}


def _nearest(scopes: list[list[Source]]) -> list[Source]:
    """For each plugin's name the nearest one; a disabled one counts for nothing."""
    found: dict[str, Source] = {}
    for scope in scopes:
        found |= {str(one["name"].value): one for one in scope if one["enabled"].flag(default=True)}
    return list(found.values())


def _module(context: _Context, service: str, hosts: tuple[str, ...], *, secure: bool) -> Json:
    key = (service, hosts, secure)
    if key not in context.modules:
        context.modules[key] = context.draft.module(service, _listener(context, secure=secure), hosts)
    return context.modules[key]


def _listener(context: _Context, *, secure: bool) -> str:
    word = "https" if secure else "http"
    if word not in context.listeners:
        certificates = [{"secret": "default-certificate"}] if secure else []
        port = 8443 if secure else 8000
        context.listeners[word] = context.draft.listener(word, port, word.upper(), certificates)
    return context.listeners[word]


def _hosts(route: Source) -> tuple[str, ...] | None:
    """None if the route has hosts and none of them can be said."""
    found = []
    for host in route["hosts"].each():
        written = str(host.value)
        if ":" in written or "*" in written.removeprefix("*."):
            host.lose("a host is `name` or `*.name`, without a port")
        else:
            found.append(host.text().lower())
    return None if route["hosts"].value and not found else tuple(found)


def _conditions(route: Source) -> Json | None:
    """Methods and headers; None if one of them cannot be said, since without it the route would match more."""
    made: Json = {}
    if route["methods"].value:
        made["methods"] = [method.upper() for method in route["methods"].texts()]
    headers: Json = {}
    for name, values in route["headers"].items():
        written = values.texts()
        if any(one.startswith("~*") for one in written):
            values.lose("a header that must match a regular expression: the route is left out")
            return None
        headers[name.lower()] = {"exact": written[0]} if len(written) == 1 else {"regex": full_match(written)}
    for word in ("snis", "sources", "destinations"):
        if route[word].value:
            route[word].lose("what a connection is like cannot be matched: the route is left out")
            return None
    return made | ({"headers": headers} if headers else {})


def _path(path: Source) -> tuple[Json | None, str | None]:
    """The match, and the prefix if it is one."""
    written = str(path.value) if path.value is not None else "/"
    if not written.startswith("~"):
        path.take()
        if len(written.rstrip("/")) > 0:
            path.change("Kong's prefix ends anywhere in a segment; here it is whole segments")
        return {"prefix": written.rstrip("/") or "/"}, written.rstrip("/")
    pattern = written[1:].removeprefix("^")
    pattern = pattern[:-1] if pattern.endswith("$") else f"{pattern}.*"
    problem = re2_problem(pattern)
    if problem:
        path.lose(f"not a pattern of RE2 ({problem}): the route is left out")
        return None, None
    path.take()
    return {"regex": pattern}, None


def _rewrite(
    context: _Context, route: Source, path: Source, old: str | None, parts: Json, backends: list[Json]
) -> Json:
    """What the upstream sees. Raises Closed where the path would arrive as another one."""
    strip = route["strip_path"].flag(default=True)
    made: Json = {}
    if old is None:
        if strip or parts["path"]:
            path.lose("the part that matched a regular expression cannot be taken off: the route refuses everybody")
            raise Closed("the path would have to be rewritten by a regular expression")
    else:
        new = parts["path"] + ("" if strip else old)
        if (new or "/") != (old or "/"):
            made["path"] = {"prefix": new or "/"}
    if not route["preserve_host"].flag(default=False):
        made |= _host(context, parts, backends)
    return {"rewrite": made} if made else {}


def _host(context: _Context, parts: Json, backends: list[Json]) -> Json:
    if parts["host"] not in context.targets:
        return {"host": parts["host"]}
    bodies: list[Mapping[str, Any]] = [context.draft.of("upstreams")[one["upstream"]] for one in backends]
    return {"auto_host": True} if all(body["type"] == "dns" for body in bodies) and has("auto_host", *_AT) else {}


_AT: Final = ("modules", "*", "routes", "*", "rewrite")
