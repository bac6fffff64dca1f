"""Limits as the decision service counts them, for requests that are only explained."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gateway.explain import Answer, Explanation, Step
from gateway.model import Gateway, Model, RateLimit
from gateway.problems import Path
from gateway.testing.judging import Sent, limit_name
from policy.ratelimit.memory import MemoryStore
from policy.ratelimit.store import Counter
from policy.ratelimit.tree import algorithm


class Counters:
    """`now`: milliseconds since the epoch. Every limit counts as mode `exact` does."""

    def __init__(self, gateway: Gateway, now: Callable[[], int]) -> None:
        self._gateway, self._store = gateway, MemoryStore(now)

    def sent(self, found: Explanation) -> Sent:
        """The request counted by every limit that it comes to, all at once; refused if one of them is over."""
        met = [(step, limit_at(self._gateway, step.path or ())) for step in found.steps if step.part == "limit"]
        if not met:
            return Sent(found)
        counters = [counter(found, step, limit) for step, limit in met]
        taken = asyncio.run(self._store.take(counters, 1.0))
        paths = frozenset(step.path for step, _ in met if step.path)
        if taken.admitted:
            return Sent(found, counted=paths)
        over = zip(met, taken.readings, strict=True)
        step, limit = next(one for one, reading in over if reading.over and not one[1].shadow)
        return Sent(refused(self._gateway, found), limit_name(step.path or (), limit.name), paths)


def counter(found: Explanation, step: Step, limit: RateLimit) -> Counter:
    """As `policy.ratelimit.plan` makes it of one hit. The step's text says by what is counted and who shares it."""
    route = "" if step.path and step.path[0] == "tiers" else found.route
    charge = 0 if limit.cost_from else limit.cost
    return Counter(
        repr((step.path, route, step.text)),
        limit.limit.seconds * 1000,
        limit.limit.requests,
        charge or 1,
        charge,
        not limit.shadow,
        limit.burst or 0,
        algorithm(limit),
        limit.count_denied,
    )


def refused(gateway: Gateway, found: Explanation) -> Explanation:
    defaults = gateway.rate_limit_defaults
    details = "request_rate_limited" if defaults.decision == "separate" else ""
    return replace(found, answer=Answer(defaults.response.status, details), location=None)


def limit_at(gateway: Gateway, path: Path) -> RateLimit:
    found: Any = gateway
    for part in path:
        found = getattr(found, str(part)) if isinstance(found, Model) else found[part]
    if not isinstance(found, RateLimit):
        raise TypeError(f"no limit is at {path}")
    return found


def exactly(gateway: Gateway) -> Gateway:
    """With every limit counted for all Envoys together: local ones and quotas know the wall clock only."""
    tiers = {name: one.model_copy(update=counted(one.rate_limits)) for name, one in gateway.tiers.items()}
    modules = {
        name: one.model_copy(
            update={
                **counted(one.rate_limits),
                "routes": {
                    key: route.model_copy(update=counted(route.rate_limits)) for key, route in one.routes.items()
                },
            }
        )
        for name, one in gateway.modules.items()
    }
    floor = gateway.floor.model_copy(update=counted(gateway.floor.rate_limits))
    return gateway.model_copy(update={"tiers": tiers, "modules": modules, "floor": floor})


def counted(limits: tuple[RateLimit, ...] | None) -> dict[str, Any]:
    return {"rate_limits": tuple(one.model_copy(update={"mode": "exact"}) for one in limits)} if limits else {}
