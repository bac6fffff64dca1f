"""The guard against a gateway that suddenly serves much less: a file cut short, a store that lost rows, a wrong prune.

Whoever means it says so (`--allow-shrink`). Counts are compared, not names: a renamed module takes nothing away.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.document import Object

MOST: Final = 30
"""Per cent of what there was that may go without being asked for."""

FEW: Final = 3
"""So many routes or upstreams less are an edit, whatever share of a small gateway they are. Listeners have no such
allowance: each is a port that answers or does not."""


@dataclass(frozen=True, slots=True)
class Shrink:
    """`what`: listeners, routes or upstreams; how many there were and would be."""

    what: str
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.before - self.after} of {self.before} {self.what}"


def shrinks(before: Iterable[Object], after: Iterable[Object]) -> tuple[Shrink, ...]:
    """What would shrink by more than a change may without being asked for; empty for any other change."""
    old, new = dict(_counted(before)), dict(_counted(after))
    found = (Shrink(what, old[what], new[what]) for what in old)
    return tuple(shrink for shrink in found if _too_much(shrink))


def _counted(objects: Iterable[Object]) -> Iterator[tuple[str, int]]:
    objects = tuple(objects)
    yield "listeners", sum(item.kind == "listeners" for item in objects)
    yield "routes", sum(len(item.body.get("routes") or ()) for item in objects if item.kind == "modules")
    yield "upstreams", sum(item.kind == "upstreams" for item in objects)


def _too_much(found: Shrink) -> bool:
    gone = found.before - found.after
    if gone <= 0:
        return False
    if found.after == 0:
        return True
    allowed = 0 if found.what == "listeners" else FEW
    return gone > allowed and gone * 100 > MOST * found.before
