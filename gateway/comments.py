"""Comments that speak to the checks: `# gwctl: ignore GW202`, beside the line meant or alone on a line above it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_IGNORE: Final = re.compile(r"(?:^|\s)#\s*gwctl:\s*ignore\b\s*(?P<codes>.*)$")
_CODE: Final = re.compile(r"GW\d{3}")
_ALONE: Final = re.compile(r"\s*#")


@dataclass(frozen=True, slots=True)
class Ignore:
    """Warnings of these `codes` are accepted on `line`; the comment itself stands at `at` (line, column)."""

    line: int
    at: tuple[int, int]
    codes: tuple[str, ...]


def ignores(lines: Sequence[str]) -> Iterator[Ignore]:
    for index, text in enumerate(lines):
        found = _IGNORE.search(text) if "gwctl:" in text else None
        if found is not None:
            line = _next(lines, index) if _ALONE.match(text) else index + 1
            yield Ignore(line, (index + 1, found.start("codes") + 1), tuple(_CODE.findall(found["codes"])))


def _next(lines: Sequence[str], index: int) -> int:
    """The number of the first line after this one that holds more than a comment."""
    after = (i for i in range(index + 1, len(lines)) if lines[i].strip() and not _ALONE.match(lines[i]))
    return next(after, index) + 1
