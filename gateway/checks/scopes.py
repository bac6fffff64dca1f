"""Scoped listeners: every route must belong to scopes that can be told, since Envoy looks into no other table."""

from collections.abc import Iterator

from gateway.checks.routes import written
from gateway.checks.scope import Scope
from gateway.literals import literal_of
from gateway.model import Module
from gateway.problems import Path, Problem
from gateway.scopes import by_host, by_path


def problems(scope: Scope) -> Iterator[Problem]:
    listeners = scope.gateway.listeners
    for name, listener in listeners.items():
        if listener.redirect is not None and listener.route_scopes != "none":
            message = "a listener that only redirects has no routes to scope"
            yield Problem("GW232", ("listeners", name, "route_scopes"), message, "remove `route_scopes`")
    hosted = {name for name, listener in listeners.items() if by_host(listener.scoping)}
    pathed = {name for name, listener in listeners.items() if by_path(listener.scoping)}
    for name, module in scope.gateway.modules.items():
        if module.listener in hosted:
            yield from _wildcards(module, ("modules", name))
    for route in scope.routes if pathed else ():
        if route.listener in pathed and literal_of(route.match).first_segment is None:
            kind, text = written(route.match.where)
            place = (*route.path, "match", *(("path", kind) if route.match.path is not None else ("grpc",)))
            message = (
                f"'{text}' has no fixed first segment, and the listener '{route.listener}' finds its routes by that"
            )
            yield Problem("GW230", place, message, f"begin it with a segment and a slash, {ELSE}")


ELSE = "or put it on a listener with another `route_scopes`"


def _wildcards(module: Module, path: Path) -> Iterator[Problem]:
    for index, host in enumerate(module.hosts):
        if "*" in host:
            message = f"the listener '{module.listener}' finds its routes by host, and '{host}' is not one"
            place = (*path, "hosts", index) if "hosts" in module.model_fields_set else path
            yield Problem("GW231", place, message, f"name each host, {ELSE}")
