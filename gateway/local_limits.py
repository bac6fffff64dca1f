"""Limits of `mode: local`: each Envoy counts them for itself, in token buckets. None of them is in `gateway.limits`.

A limit of a route has buckets of its own on each route. A limit of a tier has one for each caller (or whatever `per`
says) over all routes, as where it is exact. Which tier a caller is on is known with the request only. So requests name
a slot, and the tier with it: limits of several tiers that are counted by the same keys stand in one slot, and a
request finds at most one of them there.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.limits import entry_keys, limit_id, tier_key
from gateway.model import Gateway, RateLimit
from gateway.resolve import ResolvedRoute


@dataclass(frozen=True, slots=True)
class LocalLimit:
    """A bucket of `burst` tokens for each value of `keys`. `id`: of the limit; of a tier's, its slot.

    A request takes `cost` tokens; `requests` come back in `seconds`, evenly.
    """

    id: str
    keys: tuple[str, ...]
    requests: int
    seconds: int
    burst: int
    cost: int


@dataclass(frozen=True, slots=True)
class TierLimit:
    """A limit of callers whose tier is `tier`, in a slot. `by_route`: with buckets for each route."""

    slot: str
    tier_key: str
    tier: str
    by_route: bool
    limit: LocalLimit


def of_route(route: ResolvedRoute) -> tuple[LocalLimit, ...]:
    """Its id says which route it is already, so `route` is no key of its own here."""
    anonymous = route.authentication == "none"
    return tuple(
        _local(limit_id(route, index, limit), limit, entry_keys(limit, anonymous=anonymous))
        for index, limit in enumerate(route.rate_limits)
        if limit.mode == "local"
    )


def of_tiers(gateway: Gateway, *, anonymous: bool) -> Iterator[TierLimit]:
    for name, tier in gateway.tiers.items():
        taken: Counter[str] = Counter()
        for limit in tier.rate_limits:
            if limit.mode == "local":
                keys = entry_keys(limit, anonymous=anonymous)
                head = tier_key(anonymous=anonymous)
                kind = f"{head} {' '.join(keys)}" + (f" x{limit.cost}" if limit.cost > 1 else "")
                taken[kind] += 1
                slot = f"{kind} #{taken[kind]}"
                yield TierLimit(slot, head, name, "route" in keys, _local(slot, limit, keys))


def _local(id_: str, limit: RateLimit, keys: tuple[str, ...]) -> LocalLimit:
    return LocalLimit(
        id=id_,
        keys=tuple(key for key in keys if key != "route"),
        requests=limit.limit.requests,
        seconds=limit.limit.seconds,
        burst=limit.burst or limit.limit.requests,
        cost=limit.cost,
    )
