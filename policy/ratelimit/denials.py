"""Keys that are over their limit, remembered here until the window allows again, for a second at most.

Only time and refunds lower what a counter says. A denial stays true until `pace.wait` has passed, whatever other
processes charge; what they give back is heard of within that second. The loudest callers then cost next to no round
trips. Times are of the store's clock, carried forward by a
local one from the moment *before* the question was sent: an entry may end a little early, never late.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from policy.ratelimit import pace
from policy.ratelimit.store import Counter, Reading, Taken
from policy.ratelimit.window import State

LONGEST: Final = 1_000
"""Milliseconds after which a refusal is asked for again: another process may have had a refund."""


def monotonic() -> int:
    """Milliseconds."""
    return time.monotonic_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Denial:
    """`at`: the store's time when it was decided; `asked`, `until`: milliseconds of the local clock."""

    pace: tuple[int, int, int, int]
    need: int
    at: int
    asked: int
    until: int
    states: Mapping[str, State]


class Denials:
    """Holds at most `size` keys, the oldest denial leaves first. Not thread-safe: one event loop's."""

    def __init__(self, size: int = 65_536, clock: Callable[[], int] = monotonic) -> None:
        self.clock = clock
        self._size = size
        self._denials: dict[str, Denial] = {}

    def __len__(self) -> int:
        return len(self._denials)

    def note(self, counters: Sequence[Counter], taken: Taken, asked: int) -> None:
        """Remembers a refusal. `asked`: the local clock just before the store was asked."""
        pairs = list(zip(counters, taken.readings, strict=True))
        states = {counter.key: reading.state for counter, reading in pairs if reading.state is not None}
        for counter, reading in pairs:
            if reading.over and counter.enforced and reading.state is not None:
                wait = pace.wait(counter, reading.state, taken.now, counter.need)
                until = asked + min(wait, LONGEST)
                denial = Denial(paced(counter), counter.need, taken.now, asked, until, states)
                self._remember(counter.key, denial)

    def find(self, counters: Sequence[Counter]) -> Taken | None:
        """The decision that the store would give, if one of the counters is known to be over; None: ask the store."""
        if not self._denials:
            return None
        for counter in counters:
            denial = self._denials.get(counter.key)
            if denial is None:
                continue
            if counter.charge < 0:
                del self._denials[counter.key]
            elif counter.enforced and self._holds(counter, denial) and not any(map(leaves_traces, counters)):
                return self._decision(counters, denial)
        return None

    def _remember(self, key: str, denial: Denial) -> None:
        self._denials.pop(key, None)
        self._denials[key] = denial
        if len(self._denials) > self._size:
            del self._denials[next(iter(self._denials))]

    def _holds(self, counter: Counter, denial: Denial) -> bool:
        if self.clock() >= denial.until:
            del self._denials[counter.key]
            return False
        return paced(counter) == denial.pace and counter.need >= denial.need

    def _decision(self, counters: Sequence[Counter], denial: Denial) -> Taken:
        """The others' states are those of the refusal: a refused request did not change them."""
        now = denial.at + self.clock() - denial.asked
        return Taken(now, False, [_reading(counter, denial.states.get(counter.key), now) for counter in counters])


def leaves_traces(counter: Counter) -> bool:
    """Whether even a refused request changes it, so that the store has to be told."""
    return counter.need <= 0 or counter.counts_denied


def _reading(counter: Counter, state: State | None, now: int) -> Reading:
    if state is None:
        return Reading(False, None)
    state = pace.rolled(counter, state, now)
    return Reading(not pace.fits(counter, state, now), state)


def paced(counter: Counter) -> tuple[int, int, int, int]:
    """What must be the same for a denial to hold: the limit could have been changed since."""
    return counter.length, counter.limit, counter.burst, counter.algorithm
