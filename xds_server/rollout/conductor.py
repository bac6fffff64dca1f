"""Moves the open rollout: asks `waves` what comes next, and does that in one transaction with what it was decided by.

Every control plane tries; the advisory lock lets one at a time, so there is no leader to be lost. A refusal that this
one hears is acted upon here and now, and all follow the head row.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Protocol

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import engine as engines
from db import nodes, revisions, rollouts
from db.rollouts import Course, Way
from db.rows import Fleet, FleetNode, RevisionRow, RolloutRow
from gateway.model.rollout import Rollout
from gateway.problems import dotted
from xds_server.resources import PREFIX
from xds_server.rollout import waves
from xds_server.rollout.census import Census
from xds_server.rollout.culprits import Refusal, culprit
from xds_server.rollout.publisher import Publisher, State
from xds_server.rollout.waves import Move, Told

log = structlog.get_logger(__name__)

SHOWN: Final = 20  # refusals that are kept with a halt
PACE: Final = 0.25  # seconds between two looks at an open rollout
SELF: Final = "rollout"  # who acts, in events, the audit log and revisions


class Gate(Protocol):
    """What traffic says of the nodes that have a rollout's revision, beside those that do not."""

    async def worse(self, connection: AsyncConnection, row: RolloutRow, block: Rollout) -> str:
        """Why it must not go on; "" if nothing is known against it."""
        ...


class NoNumbers:
    """Nothing is known of traffic."""

    async def worse(self, connection: AsyncConnection, row: RolloutRow, block: Rollout) -> str:
        return ""


class Conductor:
    def __init__(self, engine: AsyncEngine, publisher: Publisher, census: Census, gate: Gate | None = None) -> None:
        self._engine, self._publisher, self._census = engine, publisher, census
        self._gate = gate or NoNumbers()

    async def run(self) -> None:
        """For ever. While the database is away nothing moves: nobody could hear of it."""
        while True:
            await self._wait()
            refused = self._census.nacked.is_set()
            self._census.nacked.clear()
            try:
                while self._publisher.state.rollout and await self._turn(wait=refused):
                    refused = False
            except (engines.Unavailable, rollouts.Overtaken, revisions.Conflict) as error:
                log.info("rollout_delayed", reason=str(error))
                if refused:
                    self._census.nacked.set()
                await asyncio.sleep(PACE)

    async def _wait(self) -> None:
        if self._publisher.state.rollout is None:
            await self._publisher.changed()
        elif not self._census.nacked.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(PACE):
                    await self._census.nacked.wait()

    async def _turn(self, *, wait: bool) -> bool:
        """Whether something happened."""

        async def work(connection: AsyncConnection) -> tuple[RolloutRow, Move] | None:
            if not await rollouts.take_turn(connection, wait=wait):
                return None
            await self._census.report(connection)
            return await self._step(connection)

        moved = await engines.run(self._engine, work)
        if moved is None:
            return False
        row, move = moved
        log.info("rollout_moved", what=move.what, revision=row.revision, state=row.state, **move.told)
        return row.open

    async def _step(self, connection: AsyncConnection) -> tuple[RolloutRow, Move] | None:
        course, state = await rollouts.course(connection), self._publisher.state
        row = course.rollout
        block = block_of(row, state) if row is not None else None
        if row is None or block is None:
            return None
        failure = state.failure.reason if state.failure and state.failure.revision == row.revision else ""
        told = Told(course.freeze is not None, failure, await self._gate.worse(connection, row, block))
        fleet, now = await nodes.fleet(connection), await clock(connection)
        move = waves.step(row, fleet, now, block, told)
        if move is None:
            return None
        move = explained(row, move, fleet, state)
        return await carry_out(connection, course, row, move, SELF), move


def block_of(row: RolloutRow, state: State) -> Rollout | None:
    """The rules of the rollout: its own revision's; if that cannot be published, those of what it began from.

    None while this control plane has not compiled it yet.
    """
    if state.target is not None and state.target.snapshot.revision == row.revision:
        return state.target.gateway.rollout
    if state.failure is not None and state.failure.revision == row.revision and state.published is not None:
        return state.published.gateway.rollout
    return None


async def clock(connection: AsyncConnection) -> datetime:
    """The database's: all control planes go by the same one."""
    now: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
    return now


async def carry_out(connection: AsyncConnection, course: Course, row: RolloutRow, move: Move, who: str) -> RolloutRow:
    """The move, and with it, if it undoes the rollout, the new revision that has what the rollout began from.

    Raises Overtaken. To be called by whoever has the turn.
    """
    row = await rollouts.move(connection, row, who, move.what, move.changes, **move.told)
    if not move.undo:
        return row
    if row.open:
        back = {"base": row.base, "by_revision": course.head + 1}
        row = await rollouts.move(connection, row, who, "rolled_back", {"state": "rolled_back"}, **back)
    await _again(connection, course.head, row.base, who, because(row, move))
    return row


async def _again(connection: AsyncConnection, head: int, base: int, who: str, message: str) -> RevisionRow:
    """What was good before, as the newest revision: at once and for all."""
    return await revisions.commit(
        connection,
        expected_revision=head,
        objects=await revisions.load(connection, base),
        author=who,
        message=message,
        digest=(await revisions.get(connection, base)).digest,
        way=Way(at_once=True),
    )


def explained(row: RolloutRow, move: Move, fleet: Fleet, state: State) -> Move:
    """A halt with what its nodes refused, as Envoy words it, and where that is written."""
    refusing = (fleet.nodes.get(name) for name in move.told.get("nodes", ()))
    nacks = [_nack(node, state) for node in refusing if node is not None and node.rejected == row.revision]
    return replace(move, told={**move.told, "nacks": nacks[:SHOWN]}) if nacks else move


def because(row: RolloutRow, move: Move) -> str:
    """Why a revision was undone, for its history."""
    if move.what != "halted":
        return f"back to revision {row.base}: the rollout of revision {row.revision} was {move.what}"
    said = [f"back to revision {row.base}: {move.told['reason']}"]
    for nack in move.told.get("nacks", ())[:1]:
        place = f"{nack['file']}:{nack['line']}:{nack['column']} " if nack["file"] else ""
        said.append(f"{nack['type'].rpartition('.')[2]}: {nack['message']}")
        said.append(f"{place}{nack['path'] or ''}")
    return "\n".join(filter(None, said))


def _nack(node: FleetNode, state: State) -> dict[str, Any]:
    said = {"type": "", "version": "", "message": "", "names": []} | dict(node.nack or {})
    refusal = Refusal(said["type"], said["version"], said["message"], tuple(said["names"]))
    target = state.target
    path = culprit(refusal, target.objects) if target is not None else None
    place = target.where.locate(path) if target is not None and path is not None else None
    return {
        "node": node.id,
        "type": refusal.type_url.removeprefix(PREFIX),
        "message": refusal.message,
        "path": dotted(path) if path else None,
        "file": place.file if place else None,
        "line": place.line if place else None,
        "column": place.column if place else None,
    }
