"""Problems from here or from the server, shown alike: with the file's line and a caret below the place."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.places import Where, sort_key
from gateway.problems import Path, Place, Problem
from gateway.render import text
from gateway.source import read
from gwctl.files import File
from gwctl.output import say


def from_json(record: Mapping[str, Any]) -> Problem:
    """A problem out of an `errors[]` entry of the control API (the inverse of `gateway.render.as_json`)."""
    place = None
    if record.get("file") and record.get("line"):
        place = Place(str(record["file"]), int(record["line"]), int(record.get("column") or 1))
    return Problem(
        code=str(record.get("code") or "GW000"),
        path=_path(str(record.get("pointer") or "")),
        message=str(record.get("message") or record.get("detail") or ""),
        help=str(record.get("help") or ""),
        severity="warning" if record.get("severity") == "warning" else "error",
        place=place,
    )


def show(problems: Iterable[Problem], files: Iterable[File], tell: Callable[[str], None] = say) -> None:
    """Tells problems with their lines and a count of them, by default on standard error."""
    found = sorted(problems, key=sort_key)
    if not found:
        return
    where = Where(sources={file.name: read(file.name, file.text)[0] for file in files})
    tell(text(found, where) + count(found))


def count(problems: Iterable[Problem]) -> str:
    """`2 errors, 1 warning`."""
    severities = [problem.severity for problem in problems]
    parts = [(severities.count(kind), kind) for kind in ("error", "warning")]
    return ", ".join(f"{n} {kind}{'s' if n > 1 else ''}" for n, kind in parts if n)


def _path(pointer: str) -> Path:
    """RFC 6901. It does not tell an index from a key that is a number; the path only names what the place says."""
    parts = (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
    return tuple(int(part) if part.isdecimal() else part for part in parts)
