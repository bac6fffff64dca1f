"""Limits of tiers that each Envoy counts for itself (see `gateway.local_limits`): their part of `local_ratelimit`.

A request asks by slots. Its route's metadata names those that it asks by: what tells the caller's tier and name is not
the same on all routes, and the buckets are. On which tier the caller is, Envoy finds out of what was verified.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from envoy.config.route.v3.route_components_pb2 import RateLimit
from envoy.extensions.common.ratelimit.v3.ratelimit_pb2 import LocalRateLimitDescriptor, RateLimitDescriptor
from envoy.extensions.rate_limit_descriptors.expr.v3.expr_pb2 import Descriptor
from envoy.type.v3.token_bucket_pb2 import TokenBucket

from gateway.local_limits import LocalLimit, TierLimit, of_tiers
from gateway.resolve import ResolvedRoute
from xds_server.compiler.context import Context
from xds_server.compiler.expressions import known_tier
from xds_server.compiler.filters import ratelimit
from xds_server.compiler.identity import Identity, RouteSpec
from xds_server.compiler.wire import duration, extension, fingerprint, uint32

EXPRESSION: Final = "envoy.rate_limit_descriptors.expr"
ANY_ROUTE: Final = "*"
Action = RateLimit.Action


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot as callers of one kind ask by it. `name` says both; it stands in their routes' metadata."""

    name: str
    slot: str
    by_route: bool
    cost: int
    actions: tuple[Action, ...]


def slots(context: Context, spec: RouteSpec) -> tuple[Slot, ...]:
    """Those of a route. As where they are exact, a tier's limits count what is sent on."""
    if spec.resolved is None or not spec.reaches_upstream:
        return ()
    return slots_of(context, spec.identity, spec.resolved)


def slots_of(context: Context, identity: Identity, route: ResolvedRoute) -> tuple[Slot, ...]:
    anonymous = identity.kind == "open"
    tiers = limits(context, anonymous=anonymous)
    if not tiers:
        return ()
    tier = route.tier if anonymous else ""
    return context.once(("local tiers", identity, tier), lambda: tuple(_slots(context, identity, route, tiers)))


def limits(context: Context, *, anonymous: bool) -> tuple[TierLimit, ...]:
    return context.once(("local tiers", anonymous), lambda: tuple(of_tiers(context.gateway, anonymous=anonymous)))


def _slots(context: Context, identity: Identity, route: ResolvedRoute, tiers: Iterable[TierLimit]) -> Iterator[Slot]:
    if identity.kind == "open":
        tiers = [one for one in tiers if one.tier == route.tier]
    for one in {one.slot: one for one in tiers}.values():
        keys = (ratelimit.entry(identity, route, key) for key in one.limit.keys)
        actions = (tier_entry(context, identity, route, one.tier_key), *keys)
        yield Slot(f"{one.slot} {fingerprint(actions)}", one.slot, one.by_route, one.limit.cost, actions)


def tier_entry(context: Context, identity: Identity, route: ResolvedRoute, key: str) -> Action:
    if identity.kind == "open":
        return ratelimit.constant(key, route.tier)
    text = known_tier(context, identity, route)
    return Action(extension=extension(EXPRESSION, Descriptor(descriptor_key=key, text=text)))


def written(slot: Slot, route: ResolvedRoute) -> str:
    """What the route's metadata says to the slot: the route's name, where each route has buckets of its own."""
    return route.full_name if slot.by_route else ANY_ROUTE


def head(slot: Slot) -> Action:
    return ratelimit.constant("local_limit", slot.slot)


def counted(slots: Iterable[Slot], tiers: Iterable[TierLimit]) -> Iterator[LocalRateLimitDescriptor]:
    """The buckets of all tiers' limits that some route asks for."""
    asked = {one.slot for one in slots}
    for one in tiers:
        if one.slot in asked and one.limit.requests > 0:
            entries = [
                RateLimitDescriptor.Entry(key="local_limit", value=one.slot),
                RateLimitDescriptor.Entry(key="route"),
                RateLimitDescriptor.Entry(key=one.tier_key, value=one.tier),
            ]
            entries += [RateLimitDescriptor.Entry(key=key) for key in one.limit.keys]
            yield LocalRateLimitDescriptor(entries=entries, token_bucket=bucket(one.limit))


def bucket(limit: LocalLimit) -> TokenBucket:
    return TokenBucket(
        max_tokens=limit.burst, tokens_per_fill=uint32(limit.requests), fill_interval=duration(limit.seconds * 1000)
    )
