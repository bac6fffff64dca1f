"""From a request's descriptors to the counters that it meets."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from gateway.scalars import UNIT_SECONDS
from policy.ratelimit.store import FIXED, LARGEST, Counter
from policy.ratelimit.tree import Entry, Limit, Match, Tree
from protos.tollhouse.ratelimit.v1 import ratelimit_pb2

UNITS: Final = {number: name.lower() for name, number in ratelimit_pb2.RateLimitUnit.items() if number}


class Charge(NamedTuple):
    """A limit that applies to a descriptor; `place` is its counter's in the plan. `detail`: see `Match`."""

    limit: Limit
    place: int
    detail: str = ""


class Plan(NamedTuple):
    """`charges`: for each descriptor of the request, in its order."""

    counters: list[Counter]
    charges: list[list[Charge]]


def plan(tree: Tree, request: ratelimit_pb2.RateLimitRequest) -> Plan:
    """`hits_addend` of a descriptor wins over the request's (where 0 means 1); a descriptor's 0 only asks."""
    replaced = _replaced(tree, request) if tree.replacing else ()
    builder = _Builder()
    for descriptor in request.descriptors:
        hits = descriptor.hits_addend.value if descriptor.HasField("hits_addend") else request.hits_addend or 1
        builder.add(_match(tree, descriptor), -hits if descriptor.is_negative_hits else hits, replaced)
    return Plan(builder.counters, builder.charges)


def _replaced(tree: Tree, request: ratelimit_pb2.RateLimitRequest) -> set[str]:
    """The names of limits that do not count beside those that the request meets."""
    matches = (_match(tree, descriptor) for descriptor in request.descriptors)
    return {name for found in matches if found for name in found.replaces}


def _match(tree: Tree, descriptor: ratelimit_pb2.RateLimitDescriptor) -> Match | None:
    entries = [(entry.key, entry.value) for entry in descriptor.entries]
    found = tree.match(entries)
    if tree.domain and descriptor.HasField("limit") and descriptor.limit.unit in UNITS:
        return _said(tree, entries, found, descriptor.limit)
    return found


def _said(
    tree: Tree,
    entries: Sequence[Entry],
    found: Match | None,
    said: ratelimit_pb2.RateLimitDescriptor.RateLimitOverride,
) -> Match:
    """What Envoy says the limit is, whatever is configured: as envoyproxy/ratelimit has it, it is never in shadow."""
    limit = _override(tree.domain, said.requests_per_unit, UNITS[said.unit])
    return Match(tree.own_key(entries), (limit,), found.replaces if found else ())


@lru_cache(maxsize=4096)
def _override(domain: str, requests: int, unit: str) -> Limit:
    return Limit(
        requests=requests,
        unit=unit,
        length=UNIT_SECONDS[unit] * 1000,
        cost=1,
        shadow=False,
        name="",
        policy=f"override-{unit}",
        rule=f"{domain}:override",
        tier="",
        suffix=unit,
        algorithm=FIXED,
    )


class _Builder:
    def __init__(self) -> None:
        self.counters: list[Counter] = []
        self.charges: list[list[Charge]] = []
        self._places: dict[str, int] = {}

    def add(self, found: Match | None, hits: int, replaced: Iterable[str]) -> None:
        """`hits` below 0 are given back."""
        if found is None:
            self.charges.append([])
            return
        limits = [one for one in found.limits if one.name not in replaced] if replaced else found.limits
        self.charges.append(
            [Charge(one, self._place(f"{found.key}{one.suffix}", one, hits), found.detail) for one in limits]
        )

    def _place(self, key: str, limit: Limit, hits: int) -> int:
        """Two descriptors that meet one counter add up in it."""
        need, charge = demand(limit, hits)
        place = self._places.setdefault(key, len(self.counters))
        if place == len(self.counters):
            self.counters.append(_counter(key, limit, need, charge))
        else:
            self.counters[place] = _together(self.counters[place], need, charge)
        return place


def demand(limit: Limit, hits: int) -> tuple[int, int]:
    """What must fit, and what is charged then. Who only asks is refused when nothing is left."""
    charge = hits * limit.cost
    charge = -LARGEST if charge < -LARGEST else min(charge, LARGEST)
    if hits < 0 or limit.settles:
        return 0, charge
    if limit.cost_from:
        return 1, 0
    return charge or 1, charge


def _counter(key: str, limit: Limit, need: int, charge: int) -> Counter:
    return Counter(
        key,
        limit.length,
        limit.requests,
        need,
        charge,
        not limit.shadow,
        limit.burst,
        limit.algorithm,
        limit.counts_denied,
    )


def _together(counter: Counter, need: int, charge: int) -> Counter:
    both = counter.charge + charge if counter.need > 0 and need > 0 else 0
    total = max(-LARGEST, min(counter.charge + charge, LARGEST))
    return counter._replace(need=min(max(counter.need, need, both), LARGEST), charge=total)
