"""Each of the 58 statements has tests that carry its number, in every variant, alone and over a real channel.

A test that takes `talk` is held over both (`variants.py`). Elsewhere a test that is a coroutine speaks over
a channel; one whose decorators name no variant is about both.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parents[1]
ROOT: Final = HERE.parents[1]

STATEMENTS: Final = range(1, 59)
PLACES: Final = tuple((variant, line) for variant in ("sotw", "delta") for line in ("alone", "channel"))

SOTW: Final = "a rule of the state of the world; delta has its own"
DELTA: Final = "a rule of delta"
SERVER: Final = "about what is around the state machine: tasks, bytes, time, another protocol"

ELSEWHERE: Final[dict[tuple[str, str], dict[int, str]]] = {
    ("sotw", ""): dict.fromkeys(range(35, 47), DELTA),
    ("delta", ""): dict.fromkeys((4, 8, 16, 17, *range(20, 27), 28, 29, 30), SOTW),
    ("", "alone"): dict.fromkeys((56, 57, 58), SERVER),
    ("", "channel"): {31: "two resources of one name cannot be published", 32: "every dialogue's channel checks it"},
}
"""What is not to be shown in a variant or over a line ("" for both), and why."""


def shown() -> dict[tuple[int, str, str], set[str]]:
    """By statement, variant and line: the files whose tests show it."""
    found: dict[tuple[int, str, str], set[str]] = {}
    for path in sorted(HERE.rglob("test_*.py")):
        for test in cases(path):
            for number in map(int, re.findall(r"_s(\d+)(?=_)", test.name)):
                for variant in variants(test):
                    for line in lines(test):
                        found.setdefault((number, variant, line), set()).add(path.name)
    return found


def cases(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_s"):
            yield node


def variants(test: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    one = [d.id for d in test.decorator_list if isinstance(d, ast.Name) and d.id in ("sotw", "delta")]
    return one or ["sotw", "delta"]


def lines(test: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    if any(argument.arg == "talk" for argument in test.args.args):
        return ["alone", "channel"]
    return ["channel" if isinstance(test, ast.AsyncFunctionDef) else "alone"]


def excused(number: int, variant: str, line: str) -> bool:
    return any(number in numbers and v in ("", variant) and on in ("", line) for (v, on), numbers in ELSEWHERE.items())


def test_every_statement_is_shown_in_every_place_that_it_is_about() -> None:
    found = shown()
    wanted = {(n, *place) for n in STATEMENTS for place in PLACES if not excused(n, *place)}
    assert sorted(wanted - found.keys()) == []


def test_what_is_excused_is_shown_somewhere() -> None:
    assert sorted(set(STATEMENTS) - {number for number, _, _ in shown()}) == []


def test_the_page_lists_where_each_statement_is_shown() -> None:
    """docs/xds.md has a row for each: its number, what it is about, and the files."""
    page = (ROOT / "docs/xds.md").read_text()
    rows = dict(re.findall(r"^\| (\d+) \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE))
    files: dict[int, set[str]] = {}
    for (number, _, _), names in shown().items():
        files.setdefault(number, set()).update(names)
    assert {int(number) for number in rows} == set(STATEMENTS)
    for number, cell in rows.items():
        named = set(re.findall(r"`(test_\w+\.py)`", cell))
        assert named
        assert named <= files[int(number)], f"statement {number}: {named} do not all show it: {files[int(number)]}"
