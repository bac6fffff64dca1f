"""The sliding log: every charge is kept with its time for one `length`, so what it counts is exact.

A log is a list of entries, oldest first: the time of a charge, its hits, and the sum of all hits up to it. So the hits
of any part of it are one subtraction, and no entry is looked at that does not have to be. Its size is the number of
charges in the last `length`, hence at most the limit: limits of this kind are small (`gateway.checks.quotas`).

What readers get of a log is the triple of the other algorithms: when what was asked for fits, when all is forgotten,
and how many hits the last `length` has seen. Times are whole milliseconds since the epoch, of the store's clock.
"""

from collections import deque
from typing import NamedTuple

from policy.ratelimit.window import State


class Entry(NamedTuple):
    at: int
    hits: int
    total: int


class Log:
    """Changed in place: a copy for each hit would cost as much as the limit."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()

    def roll(self, now: int, length: int) -> None:
        """Forgets what is `length` old. A clock that went back by more than that keeps the count, from now on."""
        entries = self._entries
        while entries and entries[0].at <= now - length:
            entries.popleft()
        if entries and entries[-1].at > now + length:
            used = self.used
            entries.clear()
            entries.append(Entry(now, used, used))

    @property
    def used(self) -> int:
        return self._entries[-1].total - self._base if self._entries else 0

    @property
    def _base(self) -> int:
        return self._entries[0].total - self._entries[0].hits

    def state(self, now: int, length: int, limit: int, need: int) -> State:
        """For a log that was rolled to `now`."""
        empty = self._entries[-1].at + length if self._entries else now
        return State(self._room(now, length, limit, need), empty, self.used)

    def charge(self, now: int, limit: int, hits: int) -> None:
        """Below 0: a refund, of the newest hits. More than the limit blocks for as long as the limit itself."""
        if hits < 0:
            self._refund(-hits)
            return
        hits = min(hits, max(limit, 1))
        last = self._entries[-1] if self._entries else Entry(0, 0, 0)
        if self._entries and last.at >= now:
            self._entries[-1] = Entry(last.at, last.hits + hits, last.total + hits)
        else:
            self._entries.append(Entry(now, hits, last.total + hits))

    def _refund(self, hits: int) -> None:
        while hits and self._entries:
            last = self._entries.pop()
            if last.hits > hits:
                self._entries.append(Entry(last.at, last.hits - hits, last.total - hits))
            hits -= min(hits, last.hits)

    def _room(self, now: int, length: int, limit: int, need: int) -> int:
        """When `need` hits fit if nobody else spends any; a need above the limit never does."""
        if need > limit:
            return now + length
        excess = self.used + need - limit
        if excess <= 0:
            return now
        base = self._base
        return next(entry.at for entry in self._entries if entry.total - base >= excess) + length


def rolled(stored: State | None, now: int) -> State:
    """What a reading says at a later time: it stays as it was until all is forgotten."""
    return State(now, now, 0) if stored is None or stored.previous <= now else stored
