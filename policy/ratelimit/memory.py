"""Counters in this process's memory: exact for one process, and unknown to any other."""

import time
from collections.abc import Callable, Sequence

from policy.ratelimit import pace
from policy.ratelimit.log import Log
from policy.ratelimit.store import LOG, Counter, Reading, Taken, Unavailable
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
        self._states: dict[str, tuple[State | Log, int]] = {}  # with the time after which it cannot matter
        self._sweep_at = min(SWEEP_EVERY, max_keys)

    async def take(self, counters: Sequence[Counter], timeout: float) -> Taken:  # noqa: ARG002, ASYNC109, RUF100
        now = self._now()
        states = [self._state(counter, now) for counter in counters]
        over = [not pace.fits(counter, state, now) for counter, state in zip(counters, states, strict=True)]
        admitted = not any(o and counter.enforced for o, counter in zip(over, counters, strict=True))
        charged = [counts(counter, o, admitted) for o, counter in zip(over, counters, strict=True)]
        if any(charged):
            self._make_room(now, len(counters))
            states = [
                self._charge(counter, state, now, over=o) if c else state
                for counter, state, o, c in zip(counters, states, over, charged, strict=True)
            ]
        return Taken(now, admitted, [Reading(o, state) for o, state in zip(over, states, strict=True)])

    async def close(self) -> None:
        self._states.clear()

    def _state(self, counter: Counter, now: int) -> State:
        found = self._states.get(counter.key)
        if counter.algorithm == LOG:
            return _of_log(counter, self._log(counter), now)
        return pace.rolled(counter, found[0] if found and isinstance(found[0], State) else None, now)

    def _log(self, counter: Counter) -> Log:
        found = self._states.get(counter.key)
        return found[0] if found and isinstance(found[0], Log) else Log()

    def _charge(self, counter: Counter, state: State, now: int, *, over: bool) -> State:
        kept: State | Log
        if counter.algorithm == LOG:
            kept = self._log(counter)
            kept.charge(now, counter.limit, counter.charge)
            state = kept.state(now, counter.length, counter.limit, counter.need if over else 1)
        else:
            kept = state = pace.charged(counter, state)
        self._states[counter.key] = (kept, now + pace.lifetime(counter, state, now))
        return state

    def _make_room(self, now: int, wanted: int) -> None:
        if len(self._states) + wanted <= self._sweep_at:
            return
        self._states = {key: kept for key, kept in self._states.items() if kept[1] > now}
        if len(self._states) + wanted > self._max_keys:
            raise Unavailable("the memory store is full")
        self._sweep_at = min(max(SWEEP_EVERY, 2 * len(self._states)), self._max_keys)


def counts(counter: Counter, over: bool, admitted: bool) -> bool:
    """Whether the counter is charged, or given back to, by a request that was decided so."""
    if not counter.charge:
        return False
    return counter.need <= 0 or counter.counts_denied or (admitted and not over)


def _of_log(counter: Counter, kept: Log, now: int) -> State:
    kept.roll(now, counter.length)
    over = counter.need > 0 and kept.used + counter.need > counter.limit
    return kept.state(now, counter.length, counter.limit, counter.need if over else 1)
