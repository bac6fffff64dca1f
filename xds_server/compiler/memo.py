"""What one compilation leaves to the next: parts whose inputs are the same are not made again.

A part is the same when all that it was made of is equal, so a compilation with a memo gives what one without it would.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar, cast

T = TypeVar("T")
Base = tuple[Mapping[str, object], object]
"""Parts of the document by name, and whatever else."""


class Memo:
    """Belongs to one sequence of compilations; not to be shared between threads at one time."""

    def __init__(self) -> None:
        self.epoch = 0
        """Changes with what every route depends on; a part of `given` wherever routes are made."""
        self.base: Base = ({}, None)
        """Of the compilation that began the epoch; equal to that of the last one."""
        self._old: dict[Hashable, tuple[object, object]] = {}
        self._new: dict[Hashable, tuple[object, object]] = {}

    def begin(self, base: Base) -> None:
        """A compilation begins. `base`: what so much depends on that its change is a new epoch."""
        self._new = {}
        if self.epoch == 0 or self.base != base:
            self.base = base
            self.epoch += 1

    def keep(self, key: Hashable, given: object, build: Callable[[T | None], T]) -> T:
        """`build(last)`, or `last` itself if it was made of an equal `given`; None the first time. Nobody changes it.

        `given` is compared part by part, and a part that is the same object costs nothing to compare.
        """
        found = self._new.get(key) or self._old.get(key)
        if found is None or found[0] != given:
            found = (given, build(None if found is None else cast("T", found[1])))
        self._new[key] = found
        return cast("T", found[1])

    def end(self) -> None:
        """A compilation went through: what it did not use is forgotten."""
        self._old, self._new = self._new, {}
