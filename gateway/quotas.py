"""Limits of `mode: quota`: the decision service shares each out among the Envoys, which count their shares themselves.

The one place that says what a bucket of such a limit is called between Envoy and the service (RLQS, envoy
`service.rate_limit_quota.v3`); the descriptors of exact limits are in `gateway.limits`, whose words these are:

    limit of a tier    {"tier": <tier of the caller>, <key of `per`>: "=<value>", …}
                       ("anonymous_tier" on a route without authentication)
    limit of a route   {"route_limit": <module>/<route>/<name or index>, …}

Envoy leaves an empty value out of a bucket's id, and lets a request pass when a value is missing: hence the `=`, and
every value is set. Envoy asks for one bucket of a tier and for one of a route: there is at most one such limit of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

from gateway.limits import entry_keys, limit_id, tier_key
from gateway.model import Gateway, RateLimit
from gateway.resolve import ResolvedRoute, resolve

SERVICE: Final = "envoy.service.rate_limit_quota.v3.RateLimitQuotaService"
DOMAIN: Final = "tollhouse"
HEADS: Final = ("tier", "anonymous_tier", "route_limit")
REPORT_SECONDS: Final = 5
"""Envoy reports what it let through this often, whatever it is told."""

BucketId = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Quota:
    """`requests` in `seconds` for each value of `keys`, at most `burst` at once. What a request costs is divided out.

    `rule`, `tier`: what the limit is called in metrics.
    """

    head: tuple[str, str]
    keys: tuple[str, ...]
    requests: int
    seconds: int
    burst: int
    rule: str
    tier: str = ""


def of_route(route: ResolvedRoute) -> Quota | None:
    anonymous = route.authentication == "none"
    for index, limit in enumerate(route.rate_limits):
        if limit.mode == "quota":
            name = limit_id(route, index, limit)
            keys = tuple(key for key in entry_keys(limit, anonymous=anonymous) if key != "route")
            return quota(("route_limit", name), keys, limit, name)
    return None


def of_tiers(gateway: Gateway, *, anonymous: bool) -> tuple[Quota, ...]:
    """At most one for each tier."""
    found: dict[str, Quota] = {}
    for name, tier in gateway.tiers.items():
        for limit in tier.rate_limits:
            if limit.mode == "quota":
                head = (tier_key(anonymous=anonymous), name)
                keys = entry_keys(limit, anonymous=anonymous)
                found.setdefault(name, quota(head, keys, limit, "tier", tier=name))
    return tuple(found.values())


def quota(head: tuple[str, str], keys: tuple[str, ...], limit: RateLimit, rule: str, tier: str = "") -> Quota:
    """Without a burst of its own a limit lets a second's worth come at once."""
    requests, seconds = max(1, limit.limit.requests // limit.cost), limit.limit.seconds
    burst = max(1, limit.burst // limit.cost) if limit.burst else ceil(requests / seconds)
    return Quota(head, keys, requests, seconds, burst, rule, tier)


def by_head(gateway: Gateway) -> dict[tuple[str, str], Quota]:
    """All of a gateway, by what the ids of their buckets begin with."""
    if not any_in(gateway):
        return {}
    found = [*of_tiers(gateway, anonymous=False), *of_tiers(gateway, anonymous=True)]
    found += filter(None, map(of_route, resolve(gateway)))
    return {one.head: one for one in found}


def any_in(gateway: Gateway) -> bool:
    """Without looking at routes one by one where nothing says `quota`."""
    levels = [gateway.floor.rate_limits, *(tier.rate_limits for tier in gateway.tiers.values())]
    for module in gateway.modules.values():
        levels.append(module.rate_limits or ())
        levels += [route.rate_limits or () for route in module.routes.values()]
    return any(limit.mode == "quota" for limits in levels for limit in limits)


def head_of(bucket: BucketId) -> tuple[str, str] | None:
    """What limit a bucket is of; None for an id that is none of ours."""
    return next(((word, bucket[word]) for word in HEADS if word in bucket), None)


RESOLUTION: Final = 100
"""Tokens that a whole limit has to be shared out in: an Envoy gets a whole number of them."""


def fill_seconds(quota: Quota) -> int:
    """The seconds in which a share's tokens come back, evenly: whole ones, since Envoy drops fractions.

    One limit has one such time for all shares.
    """
    return max(1, ceil(RESOLUTION * quota.seconds / quota.requests))


def tokens(quota: Quota) -> int:
    """Of the whole limit, in `fill_seconds`."""
    return max(1, quota.requests * fill_seconds(quota) // quota.seconds)
