"""The descriptor tree: which limits a request's descriptor meets.

The order of look-up at each level is envoyproxy/ratelimit's: the entry's key and value together, then the key alone;
the match must reach the descriptor's last entry. There is no going back to a shallower or a less exact node.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway import limits
from gateway.limits import LimitNode
from gateway.model import Gateway, RateLimit
from gateway.resolve import resolve

Entry = tuple[str, str]

PREFIX: Final = "rl:"
LONGEST: Final = 96
"""Longer values (a token's `sub` can be thousands of bytes) go into counter keys as a hash."""


@dataclass(frozen=True, slots=True)
class Limit:
    """`requests` per `length` milliseconds, no more than `burst` at once if that is not 0.

    `suffix` tells it from other limits of its node in counter keys.

    `policy` names it to callers, `rule` and `tier` in metrics; all are the operator's words, never a caller's.
    """

    requests: int
    unit: str
    length: int
    cost: int
    shadow: bool
    name: str
    policy: str
    rule: str
    tier: str
    suffix: str
    burst: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """`text`: this node's part of a counter key; None where the request's own value stands."""

    exact: Mapping[Entry, "Node"]
    by_key: Mapping[str, "Node"]
    limits: tuple[Limit, ...] = ()
    text: str | None = None

    def child(self, entry: Entry) -> "Node | None":
        return self.exact.get(entry) or self.by_key.get(entry[0])


@dataclass(frozen=True, slots=True)
class Match:
    """The limits that apply, and the counter key that they share but for their suffix."""

    key: str
    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    root: Node

    def match(self, entries: Sequence[Entry]) -> Match | None:
        """None: no limit was configured for such a descriptor."""
        node, parts = self.root, [PREFIX]
        for entry in entries:
            found = node.child(entry)
            if found is None:
                return None
            node = found
            parts.append(key_part(entry) if node.text is None else node.text)
        return Match("".join(parts), node.limits) if node.limits else None


def build(gateway: Gateway) -> Tree:
    """The tree of all limits of a gateway. A tier that it does not have is held to the limits of the lowest one."""
    heads: dict[Entry, list[LimitNode]] = {
        (limits.tier_key(anonymous=anonymous), tier): [] for anonymous in (False, True) for tier in gateway.tiers
    }
    for node in (*limits.tier_nodes(gateway), *(n for route in resolve(gateway) for n in limits.route_nodes(route))):
        heads.setdefault(node.head, []).append(node)
    exact = {head: _head(head, nodes) for head, nodes in heads.items()}
    lowest = next(iter(gateway.tiers), None)
    keys = (limits.tier_key(anonymous=anonymous) for anonymous in (False, True))
    by_key = {key: exact[key, lowest] for key in keys} if lowest is not None else {}
    return Tree(Node(exact=exact, by_key=by_key))


def key_part(entry: Entry) -> str:
    """One entry in a counter key: its lengths stand before its texts, so that no value can pose as another entry."""
    key, value = entry
    if len(value) > LONGEST:
        value = f"#{hashlib.blake2b(value.encode(errors='surrogatepass'), digest_size=20).hexdigest()}"
        return f"{len(key)}:{key}h{len(value)}:{value}"
    return f"{len(key)}:{key}{len(value)}:{value}"


def _head(head: Entry, nodes: Iterable[LimitNode]) -> Node:
    """The node of a first entry with the shapes below it as a trie of keys."""
    shapes = {node.keys: tuple(_limits(head, node.limits)) for node in nodes}
    return _shape(shapes, (), key_part(head))


def _shape(shapes: Mapping[tuple[str, ...], tuple[Limit, ...]], at: tuple[str, ...], text: str | None) -> Node:
    depth = len(at)
    below = dict.fromkeys(shape[depth] for shape in shapes if len(shape) > depth and shape[:depth] == at)
    by_key = {key: _shape(shapes, (*at, key), None) for key in below}
    return Node(exact={}, by_key=by_key, limits=shapes.get(at, ()), text=text)


def _limits(head: Entry, written: Iterable[RateLimit]) -> Iterator[Limit]:
    seen: dict[str, int] = {}
    for limit in written:
        # A bucket's counter is no window's: it has a key of its own.
        unit = f"{limit.limit.unit}{'-burst' if limit.burst else ''}"
        # Counters outlive a change of the number: 60/minute that becomes 90/minute goes on counting where it was.
        occurrence = seen[unit] = seen.get(unit, -1) + 1
        yield _limit(head, limit, f"{unit}{occurrence or ''}")


def _limit(head: Entry, limit: RateLimit, suffix: str) -> Limit:
    of_tier = head[0] != "route_limit"
    return Limit(
        requests=limit.limit.requests,
        unit=limit.limit.unit,
        length=limit.limit.seconds * 1000,
        cost=limit.cost,
        shadow=limit.shadow,
        name=limit.name or "",
        policy=limit.name or (f"{head[1]}-{suffix}" if of_tier else head[1]),
        rule="tier" if of_tier else head[1],
        tier=head[1] if of_tier else "",
        suffix=suffix,
        burst=limit.burst or 0,
    )
