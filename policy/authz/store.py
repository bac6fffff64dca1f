"""API keys in memory, in front of a directory that is slow and can be away.

An entry is good until its key changes, which the directory's change feed tells within about a second (`changed`). While
the feed is cut off (`fed` is false) entries stay good for a bounded grace: who cannot read the database cannot revoke
in it either. Keys that are not in memory are then undecidable, which is not the same as unknown.

A flood of well-formed random keys reaches neither memory (the caches are bounded) nor the directory: look-ups of ids
that the directory has never mentioned draw on a budget, and equal ones share a look-up.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from policy.authz.identity import KeyRecord
from policy.unavailable import Unavailable

T = TypeVar("T")


class Directory(Protocol):
    """Where keys are stored."""

    async def key(self, key_id: str) -> KeyRecord | None:
        """What is stored under an id. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Numbers of entries, seconds, look-ups a second, look-ups at once."""

    known: int = 100_000
    absent: int = 20_000
    mentioned: int = 500_000
    absent_for: float = 5.0
    grace: float = 600.0
    lookups_per_second: float = 50.0
    burst: float = 100.0
    at_once: int = 16


class KeyStore:
    """One event loop's. `clock`: seconds, monotonic."""

    def __init__(
        self, directory: Directory, bounds: Bounds = Bounds(), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory = directory
        self._bounds = bounds
        self._clock = clock
        self._known: OrderedDict[str, KeyRecord] = OrderedDict()
        self._absent: OrderedDict[str, float] = OrderedDict()  # until when
        self._flights: dict[str, asyncio.Task[KeyRecord | None]] = {}
        self._stale_flights: set[str] = set()
        self._mentioned: set[str] = set()
        self._budget = Budget(bounds.lookups_per_second, bounds.burst, clock)
        self._gate = asyncio.Semaphore(bounds.at_once)
        self._cut_off_at: float | None = clock()  # nothing was heard yet

    def remembered(self, key_id: str) -> KeyRecord | None:
        """The record of a key that is in memory; None: `find` it. Raises Unavailable."""
        self._refuse_if_too_old()
        record = self._known.get(key_id)
        if record is not None:
            self._known.move_to_end(key_id)
        return record

    async def find(self, key_id: str) -> KeyRecord | None:
        """The key's record, or None when there is no such key. Raises Unavailable."""
        record = self.remembered(key_id)
        if record is not None:
            return record
        if self._absent.get(key_id, 0.0) > self._clock():
            return None
        return await self._look_up(key_id)

    def changed(self, key_ids: Iterable[str]) -> None:
        """These keys were created, changed or revoked: what is remembered of them is void, running look-ups too."""
        for key_id in key_ids:
            self._known.pop(key_id, None)
            self._absent.pop(key_id, None)
            if key_id in self._flights:
                self._stale_flights.add(key_id)
            if len(self._mentioned) < self._bounds.mentioned:
                self._mentioned.add(key_id)

    def forget(self) -> None:
        """Everything remembered is void."""
        self._known.clear()
        self._absent.clear()
        self._stale_flights.update(self._flights)

    def fed(self, connected: bool) -> None:
        """Whether the change feed is connected and everything that it said has been heard."""
        if connected:
            self._cut_off_at = None
        elif self._cut_off_at is None:
            self._cut_off_at = self._clock()

    async def close(self) -> None:
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    # ------------------------------------------------------------------------------------------------- look-ups
    def _refuse_if_too_old(self) -> None:
        if self._cut_off_at is not None and self._clock() - self._cut_off_at > self._bounds.grace:
            raise Unavailable("changes of API keys have not been heard of for too long")

    async def _look_up(self, key_id: str) -> KeyRecord | None:
        flight = self._flights.get(key_id)
        if flight is None:
            if key_id not in self._mentioned and not self._budget.spend():
                raise Unavailable("too many look-ups of unknown API keys")
            flight = asyncio.get_running_loop().create_task(self._fly(key_id))
            self._flights[key_id] = flight
            flight.add_done_callback(lambda done: self._landed(key_id, done))
        return await asyncio.shield(flight)  # one caller's deadline is not the others'

    async def _fly(self, key_id: str) -> KeyRecord | None:
        async with self._gate:
            self._stale_flights.discard(key_id)  # what changed before it takes off, it will see
            return await self._directory.key(key_id)

    def _landed(self, key_id: str, flight: "asyncio.Task[KeyRecord | None]") -> None:
        self._flights.pop(key_id, None)
        stale = key_id in self._stale_flights
        self._stale_flights.discard(key_id)
        if flight.cancelled() or flight.exception() is not None or stale:
            return
        record = flight.result()
        if record is None:
            _keep(self._absent, key_id, self._clock() + self._bounds.absent_for, self._bounds.absent)
        else:
            _keep(self._known, key_id, record, self._bounds.known)


class Budget:
    """A token bucket: `rate` a second, at most `burst` at once."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left = burst
        self._at = clock()

    def spend(self) -> bool:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _keep(cache: "OrderedDict[str, T]", key: str, value: T, size: int) -> None:
    cache[key] = value
    cache.move_to_end(key)
    if len(cache) > size:
        cache.popitem(last=False)
