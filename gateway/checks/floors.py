"""The organisation's floor: no lower level goes below it, and what it says makes sense by itself."""

from collections.abc import Iterator

from gateway.checks import authn
from gateway.checks.scope import Scope
from gateway.model import AnyOf, Floor, HeaderEdits, Policies
from gateway.problems import Path, Problem
from gateway.resolve import ResolvedRoute

_HELP = "the floor may be extended and never weakened; who owns it can change it"


def problems(scope: Scope) -> Iterator[Problem]:
    floor = scope.gateway.floor
    for index, module in enumerate(floor.open_modules):
        yield from scope.dangling("modules", module, ("floor", "open_modules", index))
    yield from _authorization(scope, floor)
    for route in scope.routes:
        yield from _open(floor, route)
    yield from _listeners(scope, floor)
    for path, level in scope.levels():
        yield from _timeout(floor, level, path)
        yield from _headers(floor, level.response_headers, path)
    for route in scope.routes:
        for index, backend in enumerate(route.route.backends or ()):
            yield from _headers(floor, backend.response_headers, (*route.path, "backends", index))


def _authorization(scope: Scope, floor: Floor) -> Iterator[Problem]:
    if floor.authorization is not None:
        lowest = next(iter(scope.gateway.tiers), "")
        yield from authn.rules_problems(scope, floor.authorization, lowest, ("floor", "authorization"))
        for index, rule in enumerate(floor.authorization.rules):
            for position, tier in enumerate(rule.tiers):
                yield from scope.dangling("tiers", tier, ("floor", "authorization", "rules", index, "tiers", position))


def _open(floor: Floor, route: ResolvedRoute) -> Iterator[Problem]:
    """Optional credentials let nobody in particular in, so they are below the floor too."""
    who = route.authentication
    if not floor.wants_credentials(route.module) or not (who == "none" or (isinstance(who, AnyOf) and who.optional)):
        return
    at_route = route.route.authentication is not None
    path = (*route.path, "authentication") if at_route else ("modules", route.module, "authentication")
    message = f"the floor requires authentication, and anybody may call {route.full_name}"
    help_ = "name in `authentication` who may call, or add the module to `floor.open_modules`"
    yield Problem("GW405", path, message, help_)


def _listeners(scope: Scope, floor: Floor) -> Iterator[Problem]:
    for name, listener in scope.gateway.listeners.items():
        tls = listener.tls
        if tls is not None and "min_version" in tls.model_fields_set and tls.min_version < floor.tls.min_version:
            message = f"the listener takes TLS {tls.min_version}, and the floor is {floor.tls.min_version}"
            yield Problem("GW407", ("listeners", name, "tls", "min_version"), message, _HELP)


def _timeout(floor: Floor, level: Policies, path: Path) -> Iterator[Problem]:
    most, asked = floor.timeouts.request, level.timeouts.request if level.timeouts else None
    if most and asked is not None and asked > most:
        message = f"a request may take {asked} ms here, and the floor allows {most} ms"
        yield Problem("GW406", (*path, "timeouts", "request"), message, _HELP)


def _headers(floor: Floor, own: HeaderEdits | None, path: Path) -> Iterator[Problem]:
    """Whatever a level or a backend says of a header that the floor sets or adds, or keeps out."""
    edits = floor.response_headers
    if edits is None or own is None:
        return
    decided = {**edits.set, **edits.add, **dict.fromkeys(edits.remove)}
    places: list[tuple[str, Path]] = [(name, ("set", name)) for name in own.set]
    places += [(name, ("add", name)) for name in own.add]
    places += [(name, ("remove", index)) for index, name in enumerate(own.remove) if name not in edits.remove]
    for name, place in places:
        if name in decided:
            message = f"the floor decides about the response header '{name}'"
            yield Problem("GW408", (*path, "response_headers", *place), message, _HELP)
