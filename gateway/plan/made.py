"""A plan: two sides of a gateway compared in every way that can be known without a fleet."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Final

from gateway.document import Key, Object
from gateway.match import index
from gateway.model import Gateway, decode
from gateway.places import Where
from gateway.plan import taken, weakened, weakened_objects
from gateway.plan.edits import Item, Places, items
from gateway.plan.routes import RouteChange, changes, with_strangers
from gateway.plan.taken import NOBODY, Moved
from gateway.plan.weakening import Weakening
from gateway.problems import Path, Problem
from gateway.resolve import ResolvedRoute, resolve
from gateway.shrink import Shrink, shrinks

EMPTY: Final = decode({"version": 1})
"""What there is before the first revision."""


@dataclass(frozen=True)
class Side:
    """A gateway before or after. `problems`: what is found about it, warnings at most; `where`: its places."""

    objects: tuple[Object, ...] = ()
    gateway: Gateway = EMPTY
    problems: tuple[Problem, ...] = ()
    where: Where = field(default_factory=Where)

    @cached_property
    def by_key(self) -> Mapping[Key, Object]:
        return {item.key: item for item in self.objects}

    @cached_property
    def ordered(self) -> tuple[ResolvedRoute, ...]:
        return resolve(self.gateway)

    @cached_property
    def routes(self) -> Mapping[str, ResolvedRoute]:
        return {route.full_name: route for route in self.ordered}


@dataclass(frozen=True, slots=True)
class Findings:
    """By code and place in the document: what only the new side has, what only the old one had, and what both have."""

    introduced: tuple[Problem, ...]
    fixed: tuple[Problem, ...]
    unchanged: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is different. `hosts`, `tiers`: whose requests and callers may notice. `total`: how many routes there are.

    `shrunk`: what would need to be meant (`gateway.shrink`).
    """

    items: tuple[Item, ...]
    findings: Findings
    routes: tuple[RouteChange, ...]
    moved: tuple[Moved, ...]
    weakened: tuple[Weakening, ...]
    shrunk: tuple[Shrink, ...]
    hosts: tuple[str, ...]
    tiers: tuple[str, ...]
    total: int
    places: Places

    @property
    def empty(self) -> bool:
        return not self.items


def made(before: Side, after: Side) -> Plan:
    """Compares. What both have is the same objects or equal ones; time goes with what differs, and with all routes."""
    places = Places(before.where, after.where)
    found = tuple(items(before.by_key, after.by_key, places))
    if not found:
        return Plan((), findings(before, after), (), (), (), (), (), (), len(after.ordered), places)
    own = changes(before.routes, after.routes, after.gateway, _updated(before, after), _tiers(before, after))
    routes = with_strangers(own, before.ordered, after.ordered)
    return Plan(
        items=found,
        findings=findings(before, after),
        routes=routes,
        moved=tuple(_moved(before, after, routes)),
        weakened=tuple(_weakened(before, after, routes)),
        shrunk=shrinks(before.objects, after.objects),
        hosts=tuple(sorted({host for change in routes for host in _hosts(before, change)})),
        tiers=_touched_tiers(before, after, routes),
        total=len(after.ordered),
        places=places,
    )


def findings(before: Side, after: Side) -> Findings:
    old, new = ({(one.code, one.path): one for one in side.problems} for side in (before, after))
    return Findings(
        introduced=tuple(one for key, one in new.items() if key not in old),
        fixed=tuple(one for key, one in old.items() if key not in new),
        unchanged=tuple(one for key, one in new.items() if key in old),
    )


def _updated(before: Side, after: Side) -> Iterator[Key]:
    """Labels do not count: nothing that serves a request looks at them."""
    old = before.by_key
    return (key for key, item in after.by_key.items() if key in old and item.body != old[key].body)


def _tiers(before: Side, after: Side) -> frozenset[str]:
    """The tiers that differ themselves."""
    old, new = before.gateway.tiers, after.gateway.tiers
    return frozenset(name for name in new if name in old and old[name] != new[name])


def _hosts(before: Side, change: RouteChange) -> Iterable[str]:
    """Those that it had too: their requests go elsewhere now."""
    if "hosts" not in change.reasons:
        return change.route.hosts
    return (*change.route.hosts, *before.routes[change.route.full_name].hosts)


def _touched_tiers(before: Side, after: Side, routes: Iterable[RouteChange]) -> tuple[str, ...]:
    """In the order of their rank; those that are gone come first."""
    old, new = before.gateway.tiers, after.gateway.tiers
    touched = {tier for tier in {*old, *new} if old.get(tier) != new.get(tier)} | {one.route.tier for one in routes}
    return (*sorted(touched - set(new)), *(tier for tier in new if tier in touched))


_MATCHING: Final = frozenset({"match", "hosts", "listener", "priority", "cors"})
"""What decides who takes a request. `cors` does too: preflights are answered by it."""


def _moved(before: Side, after: Side, changed: Iterable[RouteChange]) -> Iterator[Moved]:
    """Where somebody may have taken another one's requests, the routes of those hosts are tried on both sides."""
    names = {one.route.full_name for one in changed if one.action != "updated" or _MATCHING.intersection(one.reasons)}
    movers = [side.routes[name] for side in (after, before) for name in names if name in side.routes]
    where = {(route.listener, host) for route in movers for host in route.hosts}
    listeners = {listener for listener, _ in where}
    old, new = ([route for route in side.ordered if route.listener in listeners] for side in (before, after))
    if not movers:
        return
    was, now = index(before.gateway, old), index(after.gateway, new)
    tried = chain(taken.of_hosts((*new, *old), where), taken.of_strangers(old, where, was))
    gone = {change.route.full_name for change in changed if change.action == "deleted"}
    for found in taken.moved(tried, was, now):
        if not (found.before == NOBODY or (found.after == NOBODY and found.before in gone)):
            yield found


def _weakened(before: Side, after: Side, changed: Iterable[RouteChange]) -> Iterator[Weakening]:
    yield from weakened_objects.of_objects(before.gateway, after.gateway)
    old = before.routes
    same_order = list(before.gateway.tiers) == list(after.gateway.tiers)
    for one in changed:
        if one.action == "created":
            yield from weakened.opened(one.route)
        elif one.action == "updated":
            yield from weakened.of_route(old[one.route.full_name], one.route, before.gateway, after.gateway)
    if not same_order:  # a tier's rank decides for routes that are themselves as they were
        told: set[Path] = {change.route.path for change in changed}
        yield from (
            found
            for name, route in after.routes.items()
            if name in old and route.path not in told
            for found in weakened.of_route(old[name], route, before.gateway, after.gateway)
        )
