"""Problems for people and for programs.

routes.yaml:4:20: error[GW101] unknown field 'prefx' in modules.orders.routes.list.match.path
   |
  4|     match: {path: {prefx: /orders}}
   |                    ^
  help: did you mean 'prefix'?
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from gateway.places import Where
from gateway.problems import Place, Problem, dotted

WIDTH: Final = 160
"""Columns of source text that are shown; a longer line is cut around the caret."""


def text(problems: Iterable[Problem], where: Where | None = None) -> str:
    """All problems, each with its line and a caret where the text is at hand; every line ends with a newline."""
    here = where or Where()
    return "".join(_one(here.placed(problem), here) for problem in problems)


def as_json(problems: Iterable[Problem], where: Where | None = None) -> list[dict[str, Any]]:
    """JSON-like: `code severity message help path pointer` (RFC 6901), and `file line column` where known."""
    here = where or Where()
    return [_record(here.placed(problem)) for problem in problems]


def _record(problem: Problem) -> dict[str, Any]:
    place = problem.place
    return {
        "code": problem.code,
        "severity": problem.severity,
        "message": problem.message,
        "help": problem.help,
        "path": dotted(problem.path),
        "pointer": pointer(problem),
        "file": place.file if place else None,
        "line": place.line if place else None,
        "column": place.column if place else None,
    }


def pointer(problem: Problem) -> str:
    """The path as a JSON Pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in problem.path)


def _one(problem: Problem, where: Where) -> str:
    place = problem.place
    at = f"{place}: " if place else f"{dotted(problem.path)}: " if problem.path else ""
    head = f"{_printable(at)}{problem.severity}[{problem.code}] {_printable(problem.message)}\n"
    shown = _excerpt(place, where) if place else ""
    return head + shown + (f"  help: {_printable(problem.help)}\n" if problem.help else "")


def _excerpt(place: Place, where: Where) -> str:
    line = where.line(place)
    if line is None or not line.strip():
        return ""
    if where.may_be_secret(place):
        return f"   |\n{place.line:>3}| (not shown: the line may hold a secret)\n"
    line, column = _cut(_printable(line), place.column)
    number = str(place.line)
    gutter = " " * max(3, len(number)) + "|"
    return f"{gutter}\n{number:>3}| {line}\n{gutter} {_indent(line, column)}^\n"


def _cut(line: str, column: int) -> tuple[str, int]:
    """A line that fits, and the column in it."""
    start = 0 if column <= WIDTH - 20 else column - WIDTH // 2
    return line[start : start + WIDTH].rstrip(), column - start


def _indent(line: str, column: int) -> str:
    """As wide as what is before the column: tabs stay tabs."""
    return "".join("\t" if character == "\t" else " " for character in line[: column - 1].ljust(column - 1))


def _printable(text: str) -> str:
    """Text that cannot move the cursor or change the terminal: control characters are shown as `?`."""
    return "".join(c if c == "\t" or (c.isprintable() or c == "\u3000") else "?" for c in text)


def json_text(problems: Iterable[Problem], where: Where | None = None) -> str:
    return json.dumps(as_json(problems, where), indent=2, ensure_ascii=False)
