"""From a request's descriptors to the counters that it meets."""

from collections.abc import Iterable
from typing import NamedTuple

from envoy.service.ratelimit.v3 import rls_pb2

from policy.ratelimit.store import GCRA, LARGEST, SLIDING, Counter
from policy.ratelimit.tree import Limit, Match, Tree


class Charge(NamedTuple):
    """A limit that applies to a descriptor; `place` is its counter's in the plan."""

    limit: Limit
    place: int


class Plan(NamedTuple):
    """`charges`: for each descriptor of the request, in its order."""

    counters: list[Counter]
    charges: list[list[Charge]]


def plan(tree: Tree, request: rls_pb2.RateLimitRequest) -> Plan:
    """`hits_addend` of a descriptor wins over the request's (where 0 means 1); a descriptor's 0 only asks."""
    builder = _Builder()
    for descriptor in request.descriptors:
        found = tree.match([(entry.key, entry.value) for entry in descriptor.entries])
        own = descriptor.hits_addend.value if descriptor.HasField("hits_addend") else None
        builder.add(found, (request.hits_addend or 1) if own is None else own)
    return Plan(builder.counters, builder.charges)


class _Builder:
    def __init__(self) -> None:
        self.counters: list[Counter] = []
        self.charges: list[list[Charge]] = []
        self._places: dict[str, int] = {}

    def add(self, found: Match | None, hits: int) -> None:
        limits: Iterable[Limit] = found.limits if found else ()
        self.charges.append([Charge(limit, self._place(f"{found.key}{limit.suffix}", limit, hits)) for limit in limits])  # type: ignore[union-attr]

    def _place(self, key: str, limit: Limit, hits: int) -> int:
        """Two descriptors that meet one counter add up in it."""
        charge = min(hits * limit.cost, LARGEST)
        place = self._places.setdefault(key, len(self.counters))
        if place == len(self.counters):
            self.counters.append(_counter(key, limit, charge))
        else:
            before = self.counters[place].charge
            self.counters[place] = _counter(key, limit, min(before + charge, LARGEST))
        return place


def _counter(key: str, limit: Limit, charge: int) -> Counter:
    """Who only asks is refused when nothing is left."""
    algorithm = GCRA if limit.burst else SLIDING
    return Counter(key, limit.length, limit.requests, max(charge, 1), charge, not limit.shadow, limit.burst, algorithm)
