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
    """A module's routes, resolved, by scope. `unplaced`: those that their listener's scopes cannot hold.

    `kinds`: of its routes, one of each way to authenticate and be limited.
    """

    module: Module
    epoch: int
    routes: dict[str, ResolvedRoute]
    placed: dict[Scope, Placed]
    unplaced: tuple[ResolvedRoute, ...]
    kinds: tuple[ResolvedRoute, ...]


def parts_of(gateway: Gateway, memo: Memo) -> Iterator[Part]:
    for name, module in gateway.modules.items():
        make = partial(part_of, gateway, name, module, memo.epoch)
        yield memo.keep(("module", name), (memo.epoch, module), make)


def part_of(gateway: Gateway, name: str, module: Module, epoch: int, last: Part | None = None) -> Part:
    known = last if last is not None and last.epoch == epoch and same_but_for_routes(last.module, module) else None
    listener = gateway.listeners.get(module.listener)
    scoping = listener.scoping if listener is not None else "none"
    routes = dict(resolved(gateway, name, module, known))
    placed: dict[Scope, list[tuple[tuple[object, ...], ResolvedRoute]]] = {}
    unplaced = []
    for item in sorted(((precedence(route), route) for route in routes.values()), key=itemgetter(0)):
        scopes = scopes_of(item[1], scoping)
        for scope in scopes:
            placed.setdefault(scope, []).append(item)
        if not scopes:
            unplaced.append(item[1])
    kinds = {(id(route.authentication), *map(id, route.rate_limits)): route for route in routes.values()}
    return Part(
        module if known is None else known.module.model_copy(update={"routes": module.routes}),
        epoch,
        routes,
        {scope: tuple(items) for scope, items in placed.items()},
        tuple(unplaced),
        tuple(kinds.values()),
    )


def same_but_for_routes(one: Module, other: Module) -> bool:
    return all(getattr(one, field) == getattr(other, field) for field in Module.model_fields if field != "routes")


def resolved(gateway: Gateway, name: str, module: Module, known: Part | None) -> Iterator[tuple[str, ResolvedRoute]]:
    """A route that its module's last edition had too was resolved then.

    The others are resolved with that edition too: what routes have in common is then one object, as it is when all of
    them are new.
    """
    for route_name, route in module.routes.items():
        before = known.module.routes.get(route_name) if known is not None else None
        if known is not None and before is not None and (before is route or before == route):
            yield route_name, known.routes[route_name]
        else:
            yield route_name, resolve_route(gateway, name, known.module if known else module, route_name, route)
