"""Following a rollout: a bar for each wave on a terminal, a line for each change elsewhere."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from gwctl.client import Client, Refused
from gwctl.exits import Exit, Failure
from gwctl.files import File
from gwctl.output import console, say
from gwctl.problems import from_json, show

if TYPE_CHECKING:
    from rich.progress import Progress

LOOK: Final = 0.3  # seconds between two looks
ENDED: Final = ("rolled_back", "aborted", "superseded")
Rollout = dict[str, Any]
Tell = Callable[[str], None]


def follow(
    server: Client, revision: int, timeout: float | None, files: Sequence[File] = (), tell: Tell = say
) -> Rollout | None:
    """The rollout once it is done; None if the revision has none and goes to all nodes at once.

    `timeout`: seconds beside the soak times; None for ever. Raises Failure 5 if it is halted or undone, 6 if it takes
    longer.
    """
    found = _ask(server, revision)
    if found is None:
        return None
    soaks = sum(wave["soak"] for wave in found["rollout"]["waves"])
    deadline = None if timeout is None else time.monotonic() + timeout + soaks
    with _shown(tell) as draw:
        while True:
            rollout: Rollout = found["rollout"]
            draw(rollout, found["frozen"])
            if rollout["state"] == "done":
                return rollout
            if rollout["state"] in ENDED or rollout["state"] == "halted":
                break
            if deadline is not None and time.monotonic() > deadline:
                raise Failure(Exit.TIMEOUT, late(rollout, found["frozen"]))
            time.sleep(LOOK)
            found = _ask(server, revision) or found
    raise halted(rollout, files, tell)


def _ask(server: Client, revision: int) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = server.get(f"/v1/rollouts/{revision}")
    except Refused as refused:
        if refused.status == 404:
            return None
        raise
    return found


def halted(rollout: Rollout, files: Sequence[File], tell: Tell) -> Failure:
    """Tells what the nodes refused, with the lines that it is about; the Failure says what became of the rollout."""
    halt: dict[str, Any] = next((event for event in reversed(rollout["events"]) if event["what"] == "halted"), {})
    for nack in halt.get("nacks", ())[:3]:
        what = nack["type"].rpartition(".")[2]
        message = f"{nack['node']} rejected {what}: {nack['message']}"
        show([from_json(nack | {"code": "GW501", "message": message})], files, tell)
    revision, reason = rollout["revision"], rollout["reason"] or "an operator ended it"
    if rollout["state"] == "halted":
        hint = "gwctl rollout abort takes it back, gwctl rollout resume goes on"
        return Failure(Exit.HALTED, f"the rollout of revision {revision} is halted: {reason}", hint)
    if rollout["state"] == "superseded":
        return Failure(Exit.HALTED, f"revision {rollout['by_revision']} took the place of revision {revision}")
    again = f"revision {rollout['base']} is live again, as revision {rollout['by_revision']}"
    return Failure(Exit.HALTED, f"the rollout of revision {revision} was undone: {reason}; {again}")


def late(rollout: Rollout, frozen: dict[str, Any] | None) -> str:
    """Why it is not done yet."""
    if frozen is not None:
        return f"revision {rollout['revision']} waits: rollouts are frozen by {frozen['by']}: {frozen['reason']}"
    pending = [name for wave in rollout["waves"] for kind in ("pending", "stuck") for name in wave["nodes"][kind]]
    by = f" by {', '.join(pending[:5])}" if pending else ""
    return f"revision {rollout['revision']} was not taken{by} in time; its rollout goes on"


def line(rollout: Rollout, frozen: dict[str, Any] | None) -> str:
    """`revision 218 running: wave 1/3 canary 2/2 acked, 0 nacked, 0 pending, soak 41s`."""
    said = f"revision {rollout['revision']} {rollout['state'].replace('_', ' ')}"
    if frozen is not None:
        said += f" (frozen by {frozen['by']}: {frozen['reason']})"
    if rollout["wave"] < 0 or rollout["state"] == "done":
        return said
    wave = rollout["waves"][rollout["wave"]]
    return f"{said}: wave {rollout['wave'] + 1}/{len(rollout['waves'])} {wave['name']} {counts(wave)}"


def counts(wave: dict[str, Any]) -> str:
    found = {name: len(nodes) for name, nodes in wave["nodes"].items()}
    soak = "" if wave["soak_left"] is None else f", soak {_minutes(wave['soak_left'])}"
    stuck = f", {found['stuck']} stuck" if found["stuck"] else ""
    whole = sum(found.values())
    return f"{found['acked']}/{whole} acked, {found['nacked']} nacked, {found['pending']} pending{stuck}{soak}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


Draw = Callable[[Rollout, dict[str, Any] | None], None]


@contextmanager
def _shown(tell: Tell) -> Iterator[Draw]:
    if tell is say and console(err=True).is_terminal:
        with _bars() as progress:
            yield _drawing(progress)
    else:
        yield _lines(tell)


def _lines(tell: Tell) -> Draw:
    last = ""

    def draw(rollout: Rollout, frozen: dict[str, Any] | None) -> None:
        nonlocal last
        now = line(rollout, frozen).partition(", soak ")[0]  # not a line for each second of it
        if now != last:
            last = now
            tell(line(rollout, frozen))

    return draw


def _bars() -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[counts]}"))
    return Progress(*columns, console=console(err=True))


def _drawing(progress: "Progress") -> Draw:
    rows: dict[str, Any] = {}

    def draw(rollout: Rollout, frozen: dict[str, Any] | None) -> None:
        if not rows:
            progress.console.print(f"revision {rollout['revision']} committed")
        for number, wave in enumerate(rollout["waves"]):
            name = f"wave {number + 1}/{len(rollout['waves'])} {wave['name']}"
            if name not in rows:
                rows[name] = progress.add_task(name, total=None, counts="")
            whole = sum(map(len, wave["nodes"].values())) if number <= rollout["wave"] else 1
            waiting = "frozen" if frozen is not None else "waiting"
            shown = counts(wave) if number <= rollout["wave"] else waiting
            progress.update(rows[name], total=max(whole, 1), completed=len(wave["nodes"]["acked"]), counts=shown)

    return draw
