"""Which routes stand in which table: module by module, so that an edit of one leaves the others' places alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

from gateway.model import Gateway, Module
from gateway.resolve import ResolvedRoute, precedence, resolve_route
from gateway.scopes import Scope, scopes_of
from xds_server.compiler.memo import Memo

Placed = tuple[tuple[tuple[object, ...], ResolvedRoute], ...]
"""Routes in the order in which Envoy must try them, each with its `precedence`."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A module's routes, resolved, by scope. `unplaced`: those that their listener's scopes cannot hold."""

    listener: str
    routes: tuple[ResolvedRoute, ...]
    placed: dict[Scope, Placed]
    unplaced: tuple[ResolvedRoute, ...]


def parts_of(gateway: Gateway, memo: Memo) -> Iterator[Part]:
    for name, module in gateway.modules.items():
        yield memo.keep(("module", name), (memo.epoch, module), partial(part_of, gateway, name, module))


def part_of(gateway: Gateway, name: str, module: Module, last: object = None) -> Part:
    listener = gateway.listeners.get(module.listener)
    routes = (resolve_route(gateway, name, module, route_name, route) for route_name, route in module.routes.items())
    ordered = sorted(((precedence(route), route) for route in routes), key=itemgetter(0))
    placed: dict[Scope, list[tuple[tuple[object, ...], ResolvedRoute]]] = {}
    unplaced = []
    for item in ordered:
        scopes = scopes_of(item[1], listener.scoping if listener is not None else "none")
        for scope in scopes:
            placed.setdefault(scope, []).append(item)
        if not scopes:
            unplaced.append(item[1])
    return Part(
        module.listener,
        tuple(route for _, route in ordered),
        {scope: tuple(items) for scope, items in placed.items()},
        tuple(unplaced),
    )
