"""Requests whose counters lie in several slots of a cluster, where one script cannot see all of them.

What a request is counted by stands in braces in its counters' keys (`policy.ratelimit.tree`), so all limits by one
client lie in one slot, and most requests are decided there as on a single server. The others take two round trips:
first every slot is asked, then, if all of them have room, every slot is charged. What is given up is only this: when
somebody else takes the last room in between, the request is refused although some of its other counters were charged.
Never more than a limit is admitted, and a request that is refused in the first step charges nothing.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from policy.ratelimit.denials import leaves_traces
from policy.ratelimit.store import Counter, Reading, Taken
from policy.valkey.connection import slot

Decide = Callable[[Sequence[Sequence[Counter]]], Awaitable[list[Taken]]]
"""Decides requests whose counters are of one slot each."""


def of(counter: Counter) -> int:
    return slot(counter.key)


@dataclass(frozen=True, slots=True)
class Split:
    """One request, slot by slot. `places`: of the counters of each part among the request's."""

    counters: Sequence[Counter]
    places: Sequence[Sequence[int]]

    @classmethod
    def of(cls, counters: Sequence[Counter]) -> "Split":
        by_slot: dict[int, list[int]] = {}
        for place, counter in enumerate(counters):
            by_slot.setdefault(of(counter), []).append(place)
        return cls(counters, list(by_slot.values()))

    @property
    def whole(self) -> bool:
        return len(self.places) <= 1

    def parts(self, charged: Callable[[Counter], bool]) -> list[list[Counter]]:
        """What to ask of each slot: counters that are not `charged` are only looked at."""
        asked = [counter if charged(counter) else counter._replace(charge=0) for counter in self.counters]
        return [[asked[place] for place in part] for part in self.places]

    def joined(self, taken: Sequence[Taken]) -> Taken:
        """Servers have clocks of their own; the one furthest ahead promises least."""
        readings: dict[int, Reading] = {}
        for part, of_part in zip(self.places, taken, strict=True):
            readings.update(zip(part, of_part.readings, strict=True))
        now, admitted = max(one.now for one in taken), all(one.admitted for one in taken)
        return Taken(now, admitted, [readings[place] for place in range(len(self.counters))])


async def decide(requests: Sequence[Sequence[Counter]], of_one_slot: Decide) -> list[Taken]:
    splits = [Split.of(counters) for counters in requests]
    found = await _step([(split, split.parts(_all if split.whole else _none)) for split in splits], of_one_slot)
    open_ = [place for place, split in enumerate(splits) if not split.whole]
    second = [
        (place, splits[place].parts(_all if found[place].admitted else leaves_traces))
        for place in open_
        if found[place].admitted or any(map(leaves_traces, requests[place]))
    ]
    if second:
        answers = await _step([(splits[place], parts) for place, parts in second], of_one_slot)
        for (place, _), taken in zip(second, answers, strict=True):
            if found[place].admitted:
                found[place] = taken
    return found


async def _step(asked: Sequence[tuple[Split, list[list[Counter]]]], of_one_slot: Decide) -> list[Taken]:
    answers = iter(await of_one_slot([part for _, parts in asked for part in parts]))
    return [split.joined([next(answers) for _ in parts]) for split, parts in asked]


def _all(_: Counter) -> bool:
    return True


def _none(_: Counter) -> bool:
    return False
