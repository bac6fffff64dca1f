"""Kong's plugins as policies of a route. One that guards a route and cannot be said closes the route."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gwctl.importing.draft import Draft, Json, has
from gwctl.importing.source import Source

# fmt: off
HARMLESS: Final = frozenset({
    "correlation-id", "datadog", "file-log", "grpc-web", "http-log", "kafka-log", "loggly", "opentelemetry",
    "prometheus", "proxy-cache", "proxy-cache-advanced", "response-ratelimiting", "statsd", "syslog",
    "tcp-log", "udp-log", "zipkin",
})
# fmt: on
"""Plugins without which nobody is let in who was not before. Any other one may have kept callers out."""

CORS_LISTS: Final = {"methods": "allow_methods", "headers": "allow_headers", "exposed_headers": "expose_headers"}
UNITS: Final = ("second", "minute", "hour", "day", "month", "year")
NO_PLACE: Final = "the gateway has no place for it"


class Closed(Exception):  # noqa: N818 - not an error: the route is made, and lets nobody in
    pass


@dataclass
class Plugins:
    """`made`: the provider or key source that a plugin has become, by the plugin's place in the source."""

    draft: Draft
    made: dict[tuple[str | int, ...], str] = field(default_factory=dict)


def apply_plugin(context: Plugins, plugin: Source, route: Json) -> None:
    """Puts into the route what the plugin does. Raises Closed."""
    name = plugin["name"].text()
    plugin.drop("enabled", "instance_name", "service", "route")
    known = _KNOWN.get(name)
    if known is None and name in HARMLESS:
        plugin.lose(f"there is no plugin {name} here")
        return
    if known is None:
        plugin.lose(f"the plugin {name} may keep callers out: its routes refuse everybody")
        raise Closed(f"the plugin {name} could not be converted")
    try:
        known(context, plugin["config"], route, plugin)
    finally:
        plugin["config"].rest(NO_PLACE)
        for word in ("tags", "protocols", "ordering"):
            plugin[word].rest(NO_PLACE)


def _key_auth(context: Plugins, config: Source, route: Json, plugin: Source) -> None:
    names = [name.lower().replace("_", "-") for name in config["key_names"].texts()] or ["apikey"]
    if any("_" in str(one.value) for one in config["key_names"].each()):
        config["key_names"].change("a header's name has no underscores")
    body: Json = {"from": {"headers": names}}
    if config["key_in_query"].flag(default=True):
        _in_query(config, plugin, names, body)
    config["key_in_header"].flag(default=True)
    body["strip"] = config["hide_credentials"].flag(default=False)
    if config["anonymous"].value:
        config["anonymous"].lose("callers without a key are refused")
    _authenticated_by(context, "api_keys", plugin, body, route)


def _in_query(config: Source, plugin: Source, names: list[str], body: Json) -> None:
    if config["key_in_query"].value and has("query", "api_keys", "*", "from"):
        body["from"]["query"] = names
    elif config["key_in_query"].value:
        config["key_in_query"].change("keys are taken from headers only")
    else:
        plugin["name"].change("keys are taken from headers only: write `from.query` if they are in the query string")


def _jwt(context: Plugins, config: Source, route: Json, plugin: Source) -> None:
    plugin["name"].need("fill in the provider's issuer, audiences and jwks: the consumers' credentials say them")
    secret = context.draft.name("jwt_providers", "jwt")
    body: Json = {"issuer": "https://issuer.example/", "audiences": [secret], "jwks": {"hs256": {"secret": secret}}}
    headers = [{"name": name.lower(), "prefix": "Bearer "} for name in config["header_names"].texts()]
    cookies = config["cookie_names"].texts()
    if headers or cookies:
        body["from"] = {"headers": headers or [{"name": "authorization", "prefix": "Bearer "}], "cookies": cookies}
    longest = config["maximum_expiration"].number()
    if longest:
        body["max_lifetime"] = f"{longest}s"
    if config["anonymous"].value:
        config["anonymous"].lose("callers without a token are refused")
    _authenticated_by(context, "jwt_providers", plugin, body, route)


def _authenticated_by(context: Plugins, kind: str, plugin: Source, body: Json, route: Json) -> None:
    """Kong asks every authentication plugin of a route (without `anonymous`), so here it is all of them."""
    made = context.made.get(plugin.path)
    if made is None:
        made = context.made[plugin.path] = context.draft.add(kind, str(plugin["name"].value), body)
    before = route.get("authentication")
    if before is None:
        route["authentication"] = {"any_of": [made]}
    elif has("all_of", "modules", "*", "authentication"):
        route["authentication"] = {"all_of": [*before.get("any_of", before.get("all_of", ())), made]}
    else:
        raise Closed("two ways to tell who is calling at once")


def _rate_limiting(context: Plugins, config: Source, route: Json, plugin: Source) -> None:
    by = config["limit_by"].text("consumer")
    known = "authentication" in route
    per = {"consumer": "client" if known else "ip", "credential": "client" if known else "ip", "ip": "ip"}.get(by)
    if per is None:
        config["limit_by"].change("counted for each route, whoever calls")
        per = "route"
    limits = [{"limit": f"{number}/{unit}", "per": per} for unit in UNITS if (number := config[unit].number())]
    route["rate_limits"] = [*route.get("rate_limits", ()), *limits]
    for word in ("policy", "redis", "redis_host", "redis_port", "sync_rate"):
        config[word].rest("limits are counted by the decision service, for all Envoys together")
    config["fault_tolerant"].rest("`rate_limit_defaults.on_error` says it for all limits")


def _cors(context: Plugins, config: Source, route: Json, plugin: Source) -> None:
    origins = config["origins"].texts() or ["*"]
    credentials = config["credentials"].flag(default=False)
    made: Json = {"allow_origins": origins}
    for word, ours in (
        ("methods", "allow_methods"),
        ("headers", "allow_headers"),
        ("exposed_headers", "expose_headers"),
    ):
        written = config[word].texts()
        if written:
            made[ours] = written if ours == "allow_methods" else [name.lower() for name in written]
    seconds = config["max_age"].number()
    if seconds:
        made["max_age"] = f"{seconds}s"
    if "*" in origins and credentials:
        config["credentials"].lose("credentials from every origin are unsafe")
    elif credentials:
        made["allow_credentials"] = True
    if any(not one.startswith(("http://", "https://")) or "(" in one for one in origins if one != "*"):
        config["origins"].lose("an origin is exact, or `https://*.example.com`: the route has no CORS")
        return
    route["cors"] = made


def _headers(word: str) -> "Callable[[Plugins, Source, Json, Source], None]":
    def transform(context: Plugins, config: Source, route: Json, plugin: Source) -> None:
        edits: dict[str, Any] = dict(route.get(word, {}))
        for action, ours in (("replace", "set"), ("add", "add"), ("append", "add")):
            for entry in config.at(action, "headers").each():
                name, _, value = entry.text().partition(":")
                edits.setdefault(ours, {})[name.strip().lower()] = value.strip()
                if action != "append":
                    entry.change(
                        "Kong " + ("adds it only if it is not there" if action == "add" else "sets it only if it is")
                    )
        removed = config.at("remove", "headers").texts()
        if removed:
            edits["remove"] = [*edits.get("remove", ()), *(name.lower() for name in removed)]
        if edits:
            route[word] = edits

    return transform


def _termination(context: Plugins, config: Source, route: Json, plugin: Source) -> None:
    message = config["body"].text() or config["message"].text()
    route["respond"] = {"status": config["status_code"].number() or 503, "body": message}


_KNOWN: Final = {
    "key-auth": _key_auth,
    "jwt": _jwt,
    "rate-limiting": _rate_limiting,
    "cors": _cors,
    "request-transformer": _headers("request_headers"),
    "response-transformer": _headers("response_headers"),
    "request-termination": _termination,
}
