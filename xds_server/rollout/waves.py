"""How a rollout moves: pure, from what is known of it and of the fleet now to the one thing that happens next.

    running --(a wave's nodes all have it, and have had it for its soak)--> the next wave --> ... --> done
       |  ^
       v  | resume
    halted, paused --(promote)--> the next wave      --(abort)--> aborted

A halt ends by itself only with `on_halt: rollback`; one that is held is final until an operator says how it goes on.
"""

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from db.rows import Fleet, FleetNode, RolloutRow
from gateway.model.rollout import HaltOn, Rollout, Wave
from gateway.nodes import Node, matches

SETTLE: Final = timedelta(seconds=3)
"""How long control planes watch before they say who is there: a fleet that comes back does so within moments."""

EVERYBODY: Final = Wave(name="all")
"""The one wave of a document that writes none."""

Action = Literal["pause", "resume", "promote", "abort"]

FITS: Final[Mapping[Action, frozenset[str]]] = {
    "pause": frozenset({"running"}),
    "resume": frozenset({"paused", "halted"}),
    "promote": frozenset({"running", "paused", "halted"}),
    "abort": frozenset({"running", "paused", "halted"}),
}
"""What may be done to a rollout in which state."""


@dataclass(frozen=True, slots=True)
class Move:
    """What happens to a rollout, `what` in one word. `changes`: of its row; True stands for now. `told`: about it.

    `undo`: what the rollout began from is committed again, and everybody gets that.
    """

    what: str
    changes: Mapping[str, Any]
    told: Mapping[str, Any] = field(default_factory=dict)
    undo: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What a step is judged by beside the fleet.

    `failure`: why the revision cannot be published; `worse`: what traffic says against it; "" for nothing.
    """

    frozen: bool = False
    failure: str = ""
    worse: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """Where the nodes of a wave are, each in one of them. `stuck` have not answered for longer than they may."""

    acked: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    nacked: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()


class NotNow(Exception):  # noqa: N818 - an answer
    """The rollout is not one that this may be done to."""


def step(row: RolloutRow, fleet: Fleet, now: datetime, block: Rollout, told: Told) -> Move | None:
    """What happens next, None for nothing yet. It is asked again after each move."""
    if row.state != "running":
        return None
    trouble = _trouble(row, fleet, now, block.halt_on, told)
    if trouble is not None:
        reason, nodes = trouble
        rollback = block.on_halt == "rollback"
        return Move("halted", {"state": "halted", "reason": reason}, {"reason": reason, "nodes": nodes}, undo=rollback)
    if told.frozen or (row.wave >= 0 and not _here(row, fleet, now, block)):
        return None
    return _onward(row, fleet, now, block)


def order(
    row: RolloutRow, action: Action, fleet: Fleet, now: datetime, block: Rollout, *, everywhere: bool = False
) -> Move:
    """What an operator says. `everywhere`: promote to all waves at once. Raises NotNow.

    Whoever lets a halted rollout go on accepts the nodes that halted it as they are.
    """
    _fits(row, action)
    if action == "pause":
        return Move("paused", {"state": "paused"})
    if action == "abort":
        return Move("aborted", {"state": "aborted"}, undo=True)
    found = tally(row, row.admitted, fleet, now, block.halt_on) if row.state == "halted" else Tally()
    spared = frozenset((*row.excused, *found.nacked, *found.stuck))
    goes_on = {"state": "running", "reason": "", "excused": spared}
    if action == "resume":
        return Move("resumed", goes_on | {"wave_at": True}, {"excused": sorted(spared)})
    if everywhere or row.wave + 1 >= len(waves_of(block)):
        return Move("done", goes_on | {"state": "done"}, {"promoted": True})
    started = _start(row, fleet, block, {"promoted": True})
    return Move(started.what, {**goes_on, **started.changes}, started.told)


def waves_of(block: Rollout) -> tuple[Wave, ...]:
    return block.waves or (EVERYBODY,)


def tally(row: RolloutRow, members: Collection[str], fleet: Fleet, now: datetime, halt_on: HaltOn) -> Tally:
    """Where these nodes are."""
    found: dict[str, list[str]] = {"acked": [], "pending": [], "nacked": [], "stuck": []}
    for name in members:
        found[_where(row, fleet, fleet.nodes.get(name), now, halt_on)].append(name)
    return Tally(**{state: tuple(names) for state, names in found.items()})


def soak_left(row: RolloutRow, block: Rollout, now: datetime) -> float | None:
    """Seconds; None while the wave does not soak."""
    if row.wave < 0 or row.acked_at is None:
        return None
    soak = waves_of(block)[row.wave].soak / 1000
    return max(0.0, soak - (now - row.acked_at).total_seconds())


def picked(wave: Wave, taken: Collection[str], fleet: Fleet) -> tuple[str, ...]:
    """The nodes of a wave that begins now: connected, not taken by an earlier one, and meant by it.

    A share is one of all connected nodes, rounded up, and its nodes are picked by a hash: the same ones each time.
    """
    there = {name: node for name, node in fleet.nodes.items() if node.connected}
    left = sorted(there.keys() - set(taken))
    if wave.nodes is None:
        return tuple(left)
    if wave.nodes.percent is None:
        return tuple(name for name in left if matches(wave.nodes, described(there[name])))
    share = math.ceil(round(wave.nodes.percent * len(there) / 100, 6))
    return tuple(sorted(sorted(left, key=_draw)[:share]))


def described(node: FleetNode) -> Node:
    return Node(node.id, node.cluster, frozenset(node.labels.items()), node.region, node.zone)


def _draw(node_id: str) -> bytes:
    return hashlib.sha256(node_id.encode()).digest()


def _trouble(row: RolloutRow, fleet: Fleet, now: datetime, halt_on: HaltOn, told: Told) -> tuple[str, list[str]] | None:
    """Why it must not go on, and the nodes that say so."""
    if told.failure:
        return f"revision {row.revision} is not published: {told.failure}", []
    found = tally(row, row.admitted - row.excused, fleet, now, halt_on)
    if len(found.nacked) >= halt_on.nack:
        return f"{_names(found.nacked)} refused revision {row.revision}", sorted(found.nacked)
    if found.stuck:
        waited = f"{halt_on.ack_timeout / 1000:g} s"
        return f"{_names(found.stuck)} did not take revision {row.revision} within {waited}", sorted(found.stuck)
    if told.worse:
        return told.worse, []
    return None


def _where(row: RolloutRow, fleet: Fleet, node: FleetNode | None, now: datetime, halt_on: HaltOn) -> str:
    if node is not None and node.rejected == row.revision:
        return "nacked"
    if node is not None and node.connected and node.revision >= row.revision:
        return "acked"
    seen = node.seen_at if node is not None else None
    since = max(filter(None, (row.wave_at, fleet.since, seen)))
    return "stuck" if now - since > timedelta(milliseconds=halt_on.ack_timeout) else "pending"


def _here(row: RolloutRow, fleet: Fleet, now: datetime, block: Rollout) -> bool:
    """Whether the current wave's nodes all have it, but for refusals that are not enough for a halt."""
    found = tally(row, set(row.members[row.wave]) - row.excused, fleet, now, block.halt_on)
    return not (found.pending or found.stuck)


def _onward(row: RolloutRow, fleet: Fleet, now: datetime, block: Rollout) -> Move | None:
    """The next wave, or what comes before it.

    A wave that finds nobody is waited for as long as a node may take to answer: its nodes may be on their way back.
    """
    waves = waves_of(block)
    if row.wave >= 0 and row.acked_at is None and row.members[row.wave]:
        return Move("acked", {"acked_at": True}, {"wave": waves[row.wave].name})
    if soak_left(row, block, now):
        return None
    if row.wave + 1 == len(waves):
        return Move("done", {"state": "done"})
    if now - fleet.since < SETTLE:
        return None
    started = _start(row, fleet, block, {})
    left = any(node.connected and name not in row.admitted for name, node in fleet.nodes.items())
    waited = now - row.wave_at > timedelta(milliseconds=block.halt_on.ack_timeout)
    nobody_to_wait_for = bool(row.admitted) and not left
    return started if started.told["count"] or waited or nobody_to_wait_for else None


def _start(row: RolloutRow, fleet: Fleet, block: Rollout, told: Mapping[str, Any]) -> Move:
    wave = waves_of(block)[row.wave + 1]
    members = picked(wave, row.admitted, fleet)
    changes = {"wave": row.wave + 1, "members": (*row.members, members), "wave_at": True, "acked_at": None}
    return Move("wave_started", changes, {"wave": wave.name, "count": len(members), **told})


def _names(nodes: Collection[str]) -> str:
    shown = sorted(nodes)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _fits(row: RolloutRow, action: Action) -> None:
    if not row.open:
        raise NotNow(f"the rollout of revision {row.revision} has ended: {row.state.replace('_', ' ')}")
    if row.state not in FITS[action]:
        raise NotNow(f"the rollout of revision {row.revision} is {row.state}")
