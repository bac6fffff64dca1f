"""Rate limits and tiers: limits that can be enforced, and a rank that means something."""

from collections.abc import Iterator
from itertools import pairwise

from gateway.checks import counting
from gateway.checks.scope import Scope
from gateway.model import RateLimit, Tier
from gateway.problems import Path, Problem
from gateway.resolve import ResolvedRoute


def problems(scope: Scope) -> Iterator[Problem]:
    for route in scope.routes:
        if route.rate_limits:
            yield from _enforceable(scope, route)
            yield from _names(scope, route)
    yield from _costs(scope.gateway.floor.rate_limits, ("floor",))
    for name, module in scope.gateway.modules.items():
        yield from _costs(module.rate_limits or (), ("modules", name))
    for name, tier in scope.gateway.tiers.items():
        yield from _costs(tier.rate_limits, ("tiers", name))
    yield from _claims_of_tiers(scope)
    yield from _rank(scope)


def _enforceable(scope: Scope, route: ResolvedRoute) -> Iterator[Problem]:
    """Envoy answers `respond` and `redirect` before the rate limit filter runs."""
    own = route.route.rate_limits or ()
    if route.route.backends is None and any(limit.mode == "exact" for limit in own):
        message = "rate limits are not enforced on a route that responds or redirects by itself"
        yield Problem("GW341", (*route.path, "rate_limits"), message, "remove them, or write `mode: local`")
    has_token = bool(route.authenticated_by(scope.tokens)) or not scope.names.complete
    for path, limit in _placed(scope, route):
        if any(key.startswith("claim:") for key in limit.keys) and not has_token:
            message = f"{route.full_name} accepts no token, so there is no claim to count by"
            yield Problem("GW342", (*path, "per"), message, "use `client`, or accept a JWT provider")
    yield from _costs(own, route.path)


def _placed(scope: Scope, route: ResolvedRoute) -> Iterator[tuple[Path, RateLimit]]:
    for index, limit in enumerate(scope.gateway.floor.rate_limits):
        yield ("floor", "rate_limits", index), limit
    for index, limit in enumerate(scope.gateway.modules[route.module].rate_limits or ()):
        yield ("modules", route.module, "rate_limits", index), limit
    for index, limit in enumerate(route.route.rate_limits or ()):
        yield (*route.path, "rate_limits", index), limit


def _names(scope: Scope, route: ResolvedRoute) -> Iterator[Problem]:
    """A limit's counter is called by its name, or by its place in the list: both must be the only one on the route."""
    taken: set[str] = set()
    for index, (path, limit) in enumerate(_placed(scope, route)):
        name = limit.name or str(index)
        if name in taken:
            yield Problem("GW344", path, f"another limit of {route.full_name} is called '{name}' already")
        taken.add(name)


def _costs(limits: tuple[RateLimit, ...], path: Path) -> Iterator[Problem]:
    for index, limit in enumerate(limits):
        yield from counting.problems_of(limit, (*path, "rate_limits", index))


def _claims_of_tiers(scope: Scope) -> Iterator[Problem]:
    keys_only = next((route for route in scope.routes if _by_keys_only(scope, route)), None)
    if keys_only is None:
        return
    for name, tier in scope.gateway.tiers.items():
        for index, limit in enumerate(tier.rate_limits):
            if any(key.startswith("claim:") for key in limit.keys):
                message = f"on routes of API keys, such as {keys_only.full_name}, there is no claim to count by"
                yield Problem("GW343", ("tiers", name, "rate_limits", index, "per"), message, "use `client`", "warning")


def _by_keys_only(scope: Scope, route: ResolvedRoute) -> bool:
    with_keys = bool(route.authenticated_by(scope.names["api_keys"]))
    return with_keys and not route.authenticated_by(scope.tokens)


def _rank(scope: Scope) -> Iterator[Problem]:
    """A higher tier that may do less is most likely an order that went wrong: the order of `tiers` is the rank."""
    tiers = list(scope.gateway.tiers.items())
    for (lower_name, lower), (name, tier) in pairwise(tiers):
        message = _less(lower, tier)
        if message:
            text = f"the tier '{name}' ranks above '{lower_name}' but {message}"
            yield Problem("GW352", ("tiers", name), text, "tiers are written lowest first", "warning")


def _less(lower: Tier, higher: Tier) -> str | None:
    if lower.unlimited and not higher.unlimited:
        return "is limited, and the other is not"
    below = {(limit.keys, limit.limit.unit): limit.limit for limit in lower.rate_limits}
    for limit in higher.rate_limits:
        other = below.get((limit.keys, limit.limit.unit))
        if other is not None and other.requests > limit.limit.requests:
            return f"has {limit.limit}, less than {other}"
    return None
