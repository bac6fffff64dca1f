"""Many deadlines, one timer. Nearly all are met: each must cost next to nothing, and a timer of the loop does not."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Final, Protocol

GRAIN: Final = 0.005
"""Seconds by which a deadline may be noticed late: those that fall together are one awakening."""


class Mortal(Protocol):
    @property
    def done(self) -> bool: ...


class Deadlines:
    """Calls `late` with what was added and is not done by its time (of the loop's clock)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Mortal, Callable[[], None]]] = []
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, when: float, who: Mortal, late: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._order), who, late))
        if self._timer is None or when < self._timer.when() - GRAIN:
            self._arm(when)

    def close(self) -> None:
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when + GRAIN, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._heap and (self._heap[0][2].done or self._heap[0][0] <= now):
            _, _, who, late = heapq.heappop(self._heap)
            if not who.done:
                late()
        if self._heap:
            self._arm(self._heap[0][0])
