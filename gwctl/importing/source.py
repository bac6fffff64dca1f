"""What is read of a foreign document, and what is not: nothing of it may vanish without a word.

A converter walks the document by `Source`s. What it takes is remembered, what it cannot say is told with `lose`, and
`Ledger.losses` adds every leaf that nobody looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

UNKNOWN: Final = "this import does not know it"

Path = tuple[str | int, ...]
Kind = Literal["lost", "changed", "value"]
COVERING: Final = ("lost", "value")
"""The kinds that speak for everything below their place."""


class Loss(NamedTuple):
    """`lost`: not in the result. `changed`: there, but not quite the same. `value`: there, and needs one from you."""

    kind: Kind
    path: Path
    why: str

    @property
    def place(self) -> str:
        return place(self.path)


@dataclass
class Ledger:
    """The document, the places of it that were taken, and what was told of the others."""

    root: Any
    taken: set[Path] = field(default_factory=set)
    told: dict[Loss, None] = field(default_factory=dict)
    _closed: set[Path] = field(default_factory=set)
    _above: set[Path] = field(default_factory=set)

    def take(self, path: Path) -> None:
        self.taken.add(path)
        self._close(path)

    def tell(self, loss: Loss) -> None:
        self.told[loss] = None
        if loss.kind in COVERING:
            self._close(loss.path)

    def unseen(self, path: Path, value: Any) -> Iterator[Path]:
        """The highest places there under which nothing was taken or told."""
        if path in self._closed:
            return
        inside = list(_inside(path, value))
        if path not in self._above or not inside:
            yield path
            return
        for one, below in inside:
            yield from self.unseen(one, below)

    def within_closed(self, path: Path) -> bool:
        return any(path[:length] in self._closed for length in range(len(path) + 1))

    def losses(self) -> list[Loss]:
        """All of them, in the order of the document: what was told, and every place where nobody looked."""
        for path in list(self.unseen((), self.root)):
            self.tell(Loss("lost", path, UNKNOWN))
        order = {path: at for at, path in enumerate(_places((), self.root))}
        return sorted(self.told, key=lambda loss: order.get(loss.path, -1))

    def _close(self, path: Path) -> None:
        self._closed.add(path)
        self._above.update(path[:length] for length in range(len(path)))


@dataclass(frozen=True)
class Source:
    """A place of the document. A place that is not there is falsy, has no items, and gives None."""

    value: Any
    path: Path
    ledger: Ledger

    @classmethod
    def of(cls, document: Any) -> "Source":
        return cls(document, (), Ledger(document))

    def __bool__(self) -> bool:
        return self.value is not None

    def __getitem__(self, key: str | int) -> "Source":
        inside = self.value.get(key) if isinstance(self.value, dict) else None
        return Source(inside, (*self.path, key), self.ledger)

    def __contains__(self, key: object) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def at(self, *keys: str | int) -> "Source":
        found = self
        for key in keys:
            found = found[key]
        return found

    def items(self) -> Iterator[tuple[str, "Source"]]:
        """The entries of a mapping."""
        if isinstance(self.value, dict):
            self._take_if_empty()
            yield from ((str(key), Source(one, (*self.path, key), self.ledger)) for key, one in self.value.items())

    def each(self) -> "list[Source]":
        """The items of a list. What is no list is none, and stays to be told."""
        if not isinstance(self.value, list):
            return []
        self._take_if_empty()
        return [Source(one, (*self.path, at), self.ledger) for at, one in enumerate(self.value)]

    def text(self, default: str = "") -> str:
        """A string (or a number, as it is written)."""
        if isinstance(self.value, (str, int, float)) and not isinstance(self.value, bool):
            self.take()
            return str(self.value)
        return default

    def number(self) -> int | None:
        if isinstance(self.value, bool):
            return None
        try:
            found = int(self.value)
        except (TypeError, ValueError):
            return None
        self.take()
        return found

    def flag(self, default: bool) -> bool:
        if isinstance(self.value, bool):
            self.take()
            return self.value
        return default

    def texts(self) -> list[str]:
        """The strings of a list."""
        return [found for one in self.each() if (found := one.text())]

    def take(self) -> Any:
        """The whole of it is in the result."""
        self.ledger.take(self.path)
        return self.value

    def drop(self, *keys: str) -> None:
        """Entries that mean the same here without being written: a `kind`, a name that only refers."""
        for key in keys:
            if key in self:
                self[key].take()

    def lose(self, why: str) -> None:
        """It is not in the result."""
        if self.value is not None:
            self.ledger.tell(Loss("lost", self.path, why))

    def change(self, why: str) -> None:
        """It is in the result, but not quite the same. What is in it still has to be taken or told of."""
        self._take_leaf()
        self.ledger.tell(Loss("changed", self.path, why))

    def need(self, why: str) -> None:
        """In its place the result has something that has to be filled in."""
        self.ledger.tell(Loss("value", self.path, why))

    def rest(self, why: str) -> None:
        """All of it that nobody took or told of is not in the result, for that reason."""
        if self.value is None or self.ledger.within_closed(self.path):
            return
        for path in list(self.ledger.unseen(self.path, self.value)):
            self.ledger.tell(Loss("lost", path, why))

    def _take_leaf(self) -> None:
        if not isinstance(self.value, (dict, list)):
            self.take()

    def _take_if_empty(self) -> None:
        if not self.value:
            self.take()


def place(path: Path) -> str:
    """`paths./pets.get.security[0]`."""
    made = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return made.removeprefix(".") or "."


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """The scalars and the empty collections of a document."""
    if isinstance(value, dict) and value:
        for key, one in value.items():
            yield from leaves(one, (*path, key))
    elif isinstance(value, list) and value:
        for at, one in enumerate(value):
            yield from leaves(one, (*path, at))
    else:
        yield path


def _inside(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        yield from (((*path, key), one) for key, one in value.items())
    elif isinstance(value, list):
        yield from (((*path, at), one) for at, one in enumerate(value))


def _places(path: Path, value: Any) -> Iterator[Path]:
    yield path
    for one, below in _inside(path, value):
        yield from _places(one, below)
