"""Rate limits as descriptors: the one place that says how a limit of the document is named on the wire.

The compiler writes these entries into Envoy's rate limit actions and the decision service builds its descriptor tree
from them, so that the two cannot disagree. Descriptor entries, in order (envoy `extensions.common.ratelimit.v3`):

    limit of a tier    tier=<tier of the caller>, then one entry for each key of `per`
                       (anonymous_tier=<the module's tier> on a route without authentication)
    limit of a route   route_limit=<module>/<route>/<name or index>, then one entry for each key of `per`

Keys of `per`: `client` -> `client`, `ip` -> `remote_address`, `route` -> `route`, `claim:org` -> `claim:org`. A caller
without credentials has no client: `client` becomes `remote_address` there.

A limit with `cost_from` is charged by a second question, when the response has been sent: the same descriptor with
`cost=<cost_from>` as last entry, and the cost as its hits. The first question only asks whether anything is left.

Limits of other modes are in no tree and in no descriptor that is sent: see `gateway.local_limits`, `gateway.quotas`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.model import Gateway, RateLimit, RateLimitDomain
from gateway.resolve import ResolvedRoute

DOMAIN = "tollhouse"
COST = "cost"


@dataclass(frozen=True, slots=True)
class LimitNode:
    """Limits that share one counter key: descriptors of this shape, `head` as first entry and these `keys` after it."""

    head: tuple[str, str]
    keys: tuple[str, ...]
    limits: tuple[RateLimit, ...]

    @property
    def costs(self) -> tuple[str, ...]:
        """Where the costs of those of its limits come from that are charged after the response, each once."""
        return tuple(dict.fromkeys(limit.cost_from for limit in self.limits if limit.cost_from))


def entry_keys(limit: RateLimit, *, anonymous: bool) -> tuple[str, ...]:
    """The descriptor keys of a limit's `per`, in the document's order, each once."""
    names = {"ip": "remote_address", "client": "remote_address" if anonymous else "client"}
    return tuple(dict.fromkeys(names.get(key, key) for key in limit.keys))


def tier_shapes(gateway: Gateway, *, anonymous: bool) -> tuple[tuple[str, ...], ...]:
    """The distinct key lists over all tiers' limits: one descriptor of each goes out with every request of a route.

    The caller's tier is not known when a route is compiled: each shape is sent and the service finds the tier's limits.
    """
    shapes = {
        entry_keys(limit, anonymous=anonymous): None
        for tier in gateway.tiers.values()
        for limit in tier.rate_limits
        if limit.mode == "exact"
    }
    return tuple(sorted(shapes))


def tier_costs(gateway: Gateway, *, anonymous: bool) -> tuple[tuple[tuple[str, ...], str], ...]:
    """The shapes of tiers' limits that are charged after the response, each with where its cost comes from."""
    nodes = (node for node in tier_nodes(gateway) if node.head[0] == tier_key(anonymous=anonymous))
    return tuple(sorted({(node.keys, cost) for node in nodes for cost in node.costs}))


def tier_nodes(gateway: Gateway) -> tuple[LimitNode, ...]:
    """Every (tier, shape) with its limits, for callers with and without credentials."""
    return tuple(
        node
        for name, tier in gateway.tiers.items()
        for anonymous in (False, True)
        for node in _grouped((tier_key(anonymous=anonymous), name), tier.rate_limits, anonymous=anonymous)
    )


def tier_key(*, anonymous: bool) -> str:
    """The first entry's key. Anonymous callers have one of their own: their `client` is an address, others' is not."""
    return "anonymous_tier" if anonymous else "tier"


def route_nodes(route: ResolvedRoute) -> tuple[LimitNode, ...]:
    """A route's own limits, each with a counter of its own."""
    anonymous = route.authentication == "none"
    return tuple(
        LimitNode(("route_limit", limit_id(route, index, limit)), entry_keys(limit, anonymous=anonymous), (limit,))
        for index, limit in enumerate(route.rate_limits)
        if limit.mode == "exact"
    )


def domain_name(name: str, domain: RateLimitDomain) -> str:
    """What Envoys call a domain of `rate_limit_domains`."""
    return domain.domain or name


def limit_id(route: ResolvedRoute, index: int, limit: RateLimit) -> str:
    return f"{route.full_name}/{limit.name or index}"


def _grouped(head: tuple[str, str], limits: Iterable[RateLimit], *, anonymous: bool) -> list[LimitNode]:
    groups: dict[tuple[str, ...], list[RateLimit]] = {}
    for limit in limits:
        if limit.mode == "exact":
            groups.setdefault(entry_keys(limit, anonymous=anonymous), []).append(limit)
    return [LimitNode(head, keys, tuple(group)) for keys, group in groups.items()]
