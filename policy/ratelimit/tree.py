"""The descriptor tree: which limits a request's descriptor meets.

The order of look-up at each level is envoyproxy/ratelimit's: the entry's key and value together, then patterns for the
value in the document's order, then the key alone; the match must reach the descriptor's last entry. There is no going
back to a shallower or a less exact node. Each domain has a tree of its own, and counters of its own.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway import limits
from gateway.limits import LimitNode
from gateway.model import Gateway, LimitDescriptor, RateLimit
from gateway.resolve import resolve
from policy.ratelimit.store import FIXED, GCRA, LOG, SLIDING

Entry = tuple[str, str]

PREFIX: Final = "rl:"
ALGORITHMS: Final = {"sliding": SLIDING, "fixed": FIXED, "log": LOG, "gcra": GCRA}
KEPT_APART: Final = {SLIDING: "", FIXED: "", LOG: "-log", GCRA: "-burst"}
"""What an algorithm's counters have in their keys: the two windows keep the same, a log and a bucket something else."""
LONGEST: Final = 96
"""Longer values (a token's `sub` can be thousands of bytes) go into counter keys as a hash."""


@dataclass(frozen=True, slots=True)
class Limit:
    """`requests` per `length` milliseconds, no more than `burst` at once if that is not 0.

    `suffix` tells it from other limits of its node in counter keys.

    `policy` names it to callers, `rule` and `tier` in metrics; all are the operator's words, never a caller's. With
    a `cost_from` a request only asks whether anything is left; the cost comes in a second question that `settles` it.
    `on_error`: what it says while nobody can count; "" for what the gateway says.
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
    algorithm: int = SLIDING
    counts_denied: bool = False
    on_error: str = ""
    cost_from: str = ""
    settles: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """`text`: this node's part of a counter key; None where the request's own value stands.

    `replaces`: names of limits that do not count in a request that meets this node. `shown`: for each entry down to
    this one whether metrics have the request's own value; () for none.
    """

    exact: Mapping[Entry, "Node"]
    by_key: Mapping[str, "Node"]
    limits: tuple[Limit, ...] = ()
    text: str | None = None
    patterns: tuple["Pattern", ...] = ()
    replaces: tuple[str, ...] = ()
    shown: tuple[bool, ...] = ()

    def child(self, entry: Entry) -> "Node | None":
        found = self.exact.get(entry)
        if found is None and self.patterns:
            found = next((pattern.node for pattern in self.patterns if pattern.takes(entry)), None)
        return found or self.by_key.get(entry[0])


@dataclass(frozen=True, slots=True)
class Pattern:
    """A value with `*` for any text. `pieces`: what stands between the stars; they must come in this order."""

    key: str
    pieces: tuple[str, ...]
    node: Node

    def takes(self, entry: Entry) -> bool:
        key, value = entry
        first, *middle, last = self.pieces
        if key != self.key or not value.startswith(first):
            return False
        at, end = len(first), len(value) - len(last)
        for piece in middle:
            found = value.find(piece, at, max(at, end))
            if found < 0:
                return False
            at = found + len(piece)
        return end >= at and value.endswith(last)


@dataclass(frozen=True, slots=True)
class Match:
    """The limits that apply, and the counter key that they share but for their suffix.

    `replaces`: see `Node`. `detail`: the descriptor as metrics have it; "" for the limit's own rule.
    """

    key: str
    limits: tuple[Limit, ...]
    replaces: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    """`domain`: of another fleet, whose Envoys may say the limit themselves; "" for ours.

    `on_error`: what its Envoys do with a request when we fail; "" if that is not ours to know. `replacing`: whether any
    of its nodes replaces limits.
    """

    root: Node
    domain: str = ""
    on_error: str = ""
    replacing: bool = False

    def match(self, entries: Sequence[Entry]) -> Match | None:
        """None: no limit was configured for such a descriptor."""
        node, parts = self.root, self._head()
        for entry in entries:
            found = node.child(entry)
            if found is None:
                return None
            node = found
            part = key_part(entry) if node.text is None else node.text
            if part:
                parts.append(part)
        if not node.limits and not node.replaces:
            return None
        return Match(_key(parts), node.limits, node.replaces, self._shown(node, entries) if node.shown else "")

    def own_key(self, entries: Sequence[Entry]) -> str:
        """The counter key of a descriptor for which nothing has to be configured."""
        return _key([*self._head(), *map(key_part, entries)])

    def _head(self) -> list[str]:
        return [key_part(("", self.domain))] if self.domain else []

    def _shown(self, node: Node, entries: Sequence[Entry]) -> str:
        pairs = zip(entries, node.shown, strict=True)
        return f"{self.domain}:" + "/".join(f"{key}={value}" if shown else key for (key, value), shown in pairs)


def build(gateway: Gateway) -> Tree:
    """The tree of all limits of a gateway. A tier that it does not have is held to the limits of the lowest one."""
    heads: dict[Entry, list[LimitNode]] = {
        (limits.tier_key(anonymous=anonymous), tier): [] for anonymous in (False, True) for tier in gateway.tiers
    }
    for node in (*limits.tier_nodes(gateway), *(n for route in resolve(gateway) for n in limits.route_nodes(route))):
        heads.setdefault(node.head, []).append(node)
    on_error = gateway.rate_limit_defaults.on_error
    exact = {head: _head(head, nodes, on_error) for head, nodes in heads.items()}
    lowest = next(iter(gateway.tiers), None)
    keys = (limits.tier_key(anonymous=anonymous) for anonymous in (False, True))
    by_key = {key: exact[key, lowest] for key in keys} if lowest is not None else {}
    return Tree(Node(exact=exact, by_key=by_key), on_error=on_error)


def _key(parts: Sequence[str]) -> str:
    """In a cluster the part in braces says where a key lies: all limits by one client are in one place."""
    head, *counted_by = parts
    return f"{PREFIX}{head}{{{''.join(counted_by)}}}" if counted_by else f"{PREFIX}{{{head}}}"


def algorithm(limit: RateLimit | LimitDescriptor) -> int:
    return ALGORITHMS[limit.algorithm or ("gcra" if limit.burst else "sliding")]


def key_part(entry: Entry) -> str:
    """One entry in a counter key: its lengths stand before its texts, so that no value can pose as another entry."""
    key, value = entry
    if len(value) > LONGEST:
        value = f"#{hashlib.blake2b(value.encode(errors='surrogatepass'), digest_size=20).hexdigest()}"
        return f"{len(key)}:{key}h{len(value)}:{value}"
    return f"{len(key)}:{key}{len(value)}:{value}"


def _head(head: Entry, nodes: Iterable[LimitNode], on_error: str) -> Node:
    """The node of a first entry with the shapes below it as a trie of keys."""
    shapes = {node.keys: tuple(_limits(head, node.limits, on_error)) for node in nodes}
    return _shape(shapes, (), key_part(head))


def _shape(shapes: Mapping[tuple[str, ...], tuple[Limit, ...]], at: tuple[str, ...], text: str | None) -> Node:
    depth = len(at)
    below = dict.fromkeys(shape[depth] for shape in shapes if len(shape) > depth and shape[:depth] == at)
    by_key = {key: _shape(shapes, (*at, key), None) for key in below}
    own = shapes.get(at, ())
    return Node(exact=_settling(own), by_key=by_key, limits=own, text=text)


def _settling(own: Iterable[Limit]) -> dict[Entry, Node]:
    """Below limits whose cost comes later: what then charges their counters."""
    later: dict[Entry, tuple[Limit, ...]] = {}
    for limit in own:
        if limit.cost_from:
            entry = (limits.COST, limit.cost_from)
            later[entry] = (*later.get(entry, ()), replace(limit, settles=True))
    return {entry: Node(exact={}, by_key={}, limits=found, text="") for entry, found in later.items()}


def _limits(head: Entry, written: Iterable[RateLimit], on_error: str) -> Iterator[Limit]:
    seen: dict[str, int] = {}
    for limit in written:
        unit = f"{limit.limit.unit}{KEPT_APART[algorithm(limit)]}"
        # Counters outlive a change of the number: 60/minute that becomes 90/minute goes on counting where it was.
        occurrence = seen[unit] = seen.get(unit, -1) + 1
        yield _limit(head, limit, f"{unit}{occurrence or ''}", on_error)


def _limit(head: Entry, limit: RateLimit, suffix: str, on_error: str) -> Limit:
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
        algorithm=algorithm(limit),
        counts_denied=limit.count_denied,
        on_error=limit.on_error or on_error,
        cost_from=limit.cost_from or "",
    )
