"""Problems are values: what is wrong, where in the document, and what to do about it.

A problem names its place by path (`("modules", "orders", "routes", "get", "match")`); the line and column are looked up
when it is printed, so that one found late (a NACK of Envoy's included) still says `routes.yaml:41:9`.
"""

from dataclasses import dataclass
from typing import Literal

Path = tuple[str | int, ...]
"""A place in the merged document: keys and list indexes from the root."""

Position = tuple[int, int]
"""Line and column, both counted from 1; columns are characters."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A position in a file."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `code` is stable (`GW101`), `help` the way out; a `warning` does not stop an apply.

    `place` is set by whoever holds the text (the reader, `places.Where`); without it the path says where.
    """

    code: str
    path: Path
    message: str
    help: str = ""
    severity: Literal["error", "warning"] = "error"
    place: Place | None = None


def dotted(path: Path) -> str:
    """`modules.orders.routes.get.backends[0]`: a path as operators write it."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
