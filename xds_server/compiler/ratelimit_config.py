"""The exact limits of the document as envoyproxy/ratelimit reads them, so that it could stand in for our own service.

Source: envoyproxy/ratelimit, README, "Configuration". A descriptor tree per tier and per limited route; a node without
a value stands for every value of its key. That service counts in fixed windows, of a day at most, one for each
descriptor. So not everything can be said to it: `missing` has what was left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message

from gateway.limits import DOMAIN, LimitNode, route_nodes, tier_nodes
from gateway.model import Gateway, RateLimit
from gateway.resolve import ResolvedRoute
from protos.rls_conf import UNITS, RateLimitConfig

NAME: Final = DOMAIN


@dataclass(frozen=True, slots=True)
class Export:
    """`config`: a RateLimitConfig, None if nothing is limited. `missing`: a line for each thing that it cannot say."""

    config: Message | None
    missing: tuple[str, ...]


def export(gateway: Gateway, routes: Iterable[ResolvedRoute]) -> Export:
    """`routes`: all of them; those without limits of their own cost nothing."""
    nodes = [*tier_nodes(gateway), *(node for route in routes if route.rate_limits for node in route_nodes(route))]
    missing: list[str] = []
    config = RateLimitConfig(name=NAME, domain=DOMAIN)
    for node in nodes:
        _say(_descriptor(config, node), node, missing)
    return Export(config if nodes else None, tuple(missing))


def _descriptor(config: Any, node: LimitNode) -> Any:
    """Where the node's limit stands in the tree, made if it is not there: its head, then a level for each key."""
    found = _child(config, *node.head)
    for key in node.keys:
        found = _child(found, key, "")
    return found


def _child(parent: Any, key: str, value: str) -> Any:
    for child in parent.descriptors:
        if (child.key, child.value) == (key, value):
            return child
    return parent.descriptors.add(key=key, value=value)


def _say(descriptor: Any, node: LimitNode, missing: list[str]) -> None:
    """Of several limits on one counter the one that lets the least through in the long run is said."""
    where = f"{'='.join(node.head)} per {', '.join(node.keys) or 'nothing'}"
    sayable = sorted((one for one in node.limits if one.limit.unit in UNITS and not one.cost_from), key=_rate)
    missing += (f"{where}: {one.limit} is left out" for one in node.limits if one not in sayable[:1])
    if sayable:
        said = sayable[0]
        descriptor.rate_limit.unit = UNITS[said.limit.unit]
        descriptor.rate_limit.requests_per_unit = said.limit.requests // said.cost
        descriptor.shadow_mode = said.shadow
        missing += (f"{where}: {fault}" for fault in _lost(said))


def _rate(limit: RateLimit) -> float:
    return limit.limit.requests / limit.cost / limit.limit.seconds


def _lost(limit: RateLimit) -> Iterable[str]:
    if limit.burst is not None:
        yield f"the burst of {limit.burst} is left out, it counts in fixed windows"
    if limit.on_error is not None:
        yield f"`on_error: {limit.on_error}` is left out, Envoy's own holds for all"
    if limit.limit.requests % limit.cost:
        yield f"{limit.limit} at a cost of {limit.cost} is rounded down"
