"""Every name that refers to another object finds it, and every upstream is used by somebody."""

from collections.abc import Iterator

from gateway.checks.scope import Scope
from gateway.model import AllOf, AnyOf, Authentication, Authorization
from gateway.naming import WAYS
from gateway.problems import Path, Problem
from gateway.words import did_you_mean


def problems(scope: Scope) -> Iterator[Problem]:
    for name, module in scope.gateway.modules.items():
        path = ("modules", name)
        yield from scope.dangling("listeners", module.listener, (*path, "listener"))
        yield from scope.dangling("tiers", module.tier, (*path, "tier"))
        yield from _policies(scope, module.authentication, module.authorization, path)
        for route_name, route in module.routes.items():
            inner = (*path, "routes", route_name)
            yield from _policies(scope, route.authentication, route.authorization, inner)
            for index, backend in enumerate(route.backends or ()):
                yield from scope.dangling("upstreams", backend.upstream, (*inner, "backends", index, "upstream"))
            if route.mirror is not None:
                yield from scope.dangling("upstreams", route.mirror.upstream, (*inner, "mirror", "upstream"))
    yield from _unused(scope)


def _policies(
    scope: Scope, authentication: Authentication | None, authorization: Authorization | None, path: Path
) -> Iterator[Problem]:
    if isinstance(authentication, (AnyOf, AllOf)):
        word = "any_of" if isinstance(authentication, AnyOf) else "all_of"
        yield from _accepted(scope, authentication.names, (*path, "authentication", word))
    for index, rule in enumerate(authorization.rules if authorization else ()):
        for position, tier in enumerate(rule.tiers):
            yield from scope.dangling("tiers", tier, (*path, "authorization", "rules", index, "tiers", position))


def _accepted(scope: Scope, accepted: tuple[str, ...], path: Path) -> Iterator[Problem]:
    known = tuple(name for kind in WAYS for name in scope.names[kind])
    for index, name in enumerate(accepted):
        if name in known or not scope.names.complete:
            continue
        help_ = did_you_mean(name, known) or f"define it under {', '.join(f'`{kind}`' for kind in WAYS)}"
        yield Problem("GW201", (*path, index), f"there is no way to authenticate called '{name}'", help_)


def _unused(scope: Scope) -> Iterator[Problem]:
    if not (scope.names.complete and scope.names.decoded):
        return
    used = {backend.upstream for route in scope.routes for backend in route.route.backends or ()}
    used |= {route.route.mirror.upstream for route in scope.routes if route.route.mirror is not None}
    if used - set(scope.names["upstreams"]):
        return  # a misspelled name is an error already, and may be the one that is missing here
    for name in scope.gateway.upstreams:
        if name not in used:
            path = ("upstreams", name)
            yield Problem("GW202", path, f"no route uses the upstream '{name}'", "remove it", "warning")
