"""Limits by quota: what Envoy cannot carry out, and where the shares of a limit cannot keep its promise."""

from collections.abc import Iterable, Iterator
from typing import Final

from gateway.checks.scope import Scope
from gateway.model import RateLimit
from gateway.problems import Path, Problem
from gateway.quotas import REPORT_SECONDS
from gateway.resolve import ResolvedRoute

FEWEST: Final = 10
"""Requests between two reports, below which there is nothing to share out by."""

Placed = tuple[Path, RateLimit]


def problems(scope: Scope) -> Iterator[Problem]:
    gateway = scope.gateway
    floor = _quotas(gateway.floor.rate_limits, ("floor",))
    yield from _of_itself(floor)
    for name, tier in gateway.tiers.items():
        placed = _quotas(tier.rate_limits, ("tiers", name))
        yield from _of_itself(placed)
        yield from _only_one(placed, "a tier")
    for module_name, module in gateway.modules.items():
        yield from _of_itself(_quotas(module.rate_limits or (), ("modules", module_name)))
    for route in scope.routes:
        yield from _of_route(scope, route, floor)


def _of_route(scope: Scope, route: ResolvedRoute, floor: list[Placed]) -> Iterator[Problem]:
    """A second one is reported where it is written: at the module for all of its routes, once for each of them."""
    if not any(limit.mode == "quota" for limit in route.rate_limits):
        return
    own = _quotas(route.route.rate_limits or (), route.path)
    yield from _of_itself(own)
    module = _quotas(scope.gateway.modules[route.module].rate_limits or (), ("modules", route.module))
    yield from _only_one([*floor, *module, *own], route.full_name)


def _quotas(limits: Iterable[RateLimit], path: Path) -> list[Placed]:
    return [((*path, "rate_limits", index), limit) for index, limit in enumerate(limits) if limit.mode == "quota"]


def _only_one(placed: list[Placed], of: str) -> Iterator[Problem]:
    for path, _ in placed[1:]:
        message = f"a second quota of {of}: Envoy asks for one"
        yield Problem("GW423", (*path, "mode"), message, "write `mode: exact` or `mode: local` here")


def _of_itself(placed: Iterable[Placed]) -> Iterator[Problem]:
    for path, limit in placed:
        if limit.shadow:
            message = "what Envoy counts by itself is always enforced"
            yield Problem("GW424", (*path, "shadow"), message, "write `mode: exact` to count without enforcing")
        elif limit.limit.requests == 0:
            message = "nothing can be shared out of a limit of zero"
            yield Problem("GW424", (*path, "limit"), message, "write `mode: exact`, or refuse with authorization")
        else:
            yield from _doubtful(path, limit)


def _doubtful(path: Path, limit: RateLimit) -> Iterator[Problem]:
    message = "`mode: quota` is experimental: Envoy calls its own side of it work in progress"
    yield Problem("GW421", (*path, "mode"), message, "docs/language/limits.md#quotas says what it promises", "warning")
    between = limit.limit.requests // limit.cost * REPORT_SECONDS / limit.limit.seconds
    if between < FEWEST:
        text = f"{between:.0f}" if between >= 1 else "less than one"
        message = (
            f"{limit.limit} is too little to be shared out: {text} of it in the {REPORT_SECONDS} seconds between two "
            "reports of an Envoy, so shares follow nothing and who gets a burst is chance"
        )
        yield Problem("GW422", (*path, "limit"), message, "write `mode: exact`", "warning")
