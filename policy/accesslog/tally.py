"""What requests came to, counted by node, route and tier in slices of time. Pure.

A slice is of the time at which an entry arrives, so that a slice which is over never changes again. Its cells are
written as totals, in the place of what was written of them before: a write of which nobody knows whether it succeeded
is done again without anything being counted twice.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from db.histogram import bin_of

WIDTH: Final = 10
"""Seconds of a slice."""
MOST: Final = 50_000
"""Cells that are kept, about 1 KB each; while the database is away, what does not fit is lost, and that is counted."""
LONGEST: Final = 256
"""Characters of a node's or a route's name; they are the operator's, but who says them is a peer."""

Outcome = Literal["success", "redirect", "client_error", "limited", "upstream_error", "gateway_error", "gone"]
OUTCOMES: Final[tuple[Outcome, ...]] = (
    "success",
    "redirect",
    "client_error",
    "limited",
    "upstream_error",
    "gateway_error",
    "gone",
)


class Entry(NamedTuple):
    """A request that is over. `status` 0: the client left before the answer. `upstream`: an upstream answered."""

    route: str
    tier: str
    status: int
    upstream: bool
    milliseconds: float


class Key(NamedTuple):
    """`slice`: seconds since the epoch at which it begins."""

    slice: int
    node: str
    route: str
    tier: str


@dataclass(slots=True)
class Cell:
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    bins: Counter[int] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        return self.outcomes.total()


def outcome(status: int, *, upstream: bool) -> Outcome:
    """`gateway_error`: a 5xx that Envoy itself answers: no upstream, a timeout, no decision."""
    if status == 0:
        return "gone"
    if status == 429:
        return "limited"
    if status >= 500:
        return "upstream_error" if upstream else "gateway_error"
    if status >= 400:
        return "client_error"
    return "redirect" if status >= 300 else "success"


class Tally:
    """`lost`: requests that were not counted since there were too many cells. `take` what changed; `wrote` it."""

    def __init__(self, *, width: int = WIDTH, most: int = MOST) -> None:
        self._width, self._most = width, most
        self._cells: dict[Key, Cell] = {}
        self._changed: set[Key] = set()
        self.lost = 0

    def add(self, node: str, entries: Iterable[Entry], now: float) -> None:
        """`now`: seconds since the epoch."""
        slice_ = int(now // self._width) * self._width
        for entry in entries:
            key = Key(slice_, node[:LONGEST], entry.route[:LONGEST], entry.tier[:LONGEST])
            cell = self._cells.get(key)
            if cell is None:
                if len(self._cells) >= self._most:
                    self.lost += 1
                    continue
                cell = self._cells[key] = Cell()
            cell.outcomes[outcome(entry.status, upstream=entry.upstream)] += 1
            cell.bins[bin_of(entry.milliseconds)] += 1
            self._changed.add(key)

    def take(self) -> dict[Key, Cell]:
        """What is to be written: copies, since counting goes on meanwhile. It is due again until `wrote`."""
        return {
            key: Cell(cell.outcomes.copy(), cell.bins.copy()) for key in self._changed for cell in (self._cells[key],)
        }

    def wrote(self, taken: dict[Key, Cell], now: float) -> None:
        """These are in the database. What is written and over is forgotten."""
        for key, cell in taken.items():
            if self._cells[key].requests == cell.requests:
                self._changed.discard(key)
        over = int(now // self._width) * self._width
        for key in [key for key in self._cells if key.slice < over and key not in self._changed]:
            del self._cells[key]
