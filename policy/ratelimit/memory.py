"""Counters in this process's memory: exact for one process, and unknown to any other."""

import time
from collections.abc import Callable, Sequence

from policy.ratelimit import pace
from policy.ratelimit.store import Counter, Reading, Taken, Unavailable
from policy.ratelimit.window import State

SWEEP_EVERY = 4096  # new keys


def clock() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class MemoryStore:
    """Bounded by `max_keys`. Dropping live counters would lift limits, so a full store says Unavailable instead."""

    def __init__(self, now: Callable[[], int] = clock, max_keys: int = 1_000_000) -> None:
        self._now = now
        self._max_keys = max_keys
        self._states: dict[str, tuple[State, int]] = {}  # with the time after which it cannot matter
        self._sweep_at = min(SWEEP_EVERY, max_keys)

    async def take(self, counters: Sequence[Counter], timeout: float) -> Taken:  # noqa: ARG002, ASYNC109, RUF100
        now = self._now()
        states = [self._state(counter, now) for counter in counters]
        over = [not pace.fits(counter, state, now) for counter, state in zip(counters, states, strict=True)]
        admitted = not any(o and counter.enforced for o, counter in zip(over, counters, strict=True))
        if admitted:
            self._make_room(now, len(counters))
            states = [
                state if o else self._charge(counter, state, now)
                for counter, state, o in zip(counters, states, over, strict=True)
            ]
        return Taken(now, admitted, [Reading(o, state) for o, state in zip(over, states, strict=True)])

    async def close(self) -> None:
        self._states.clear()

    def _state(self, counter: Counter, now: int) -> State:
        found = self._states.get(counter.key)
        return pace.rolled(counter, found[0] if found else None, now)

    def _charge(self, counter: Counter, state: State, now: int) -> State:
        if not counter.charge:
            return state
        state = pace.charged(counter, state)
        self._states[counter.key] = (state, now + pace.lifetime(counter, state, now))
        return state

    def _make_room(self, now: int, wanted: int) -> None:
        if len(self._states) + wanted <= self._sweep_at:
            return
        self._states = {key: kept for key, kept in self._states.items() if kept[1] > now}
        if len(self._states) + wanted > self._max_keys:
            raise Unavailable("the memory store is full")
        self._sweep_at = min(max(SWEEP_EVERY, 2 * len(self._states)), self._max_keys)
