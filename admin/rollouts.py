"""Rollouts for people: how far one is, and what an operator may do to it."""

import json
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from admin.problems import ApiError, not_found
from db import engine as engines
from db import nodes, revisions, rollouts
from db.rows import Fleet, FreezeRow, RolloutRow
from gateway.model.rollout import Rollout
from xds_server.rollout import waves
from xds_server.rollout.conductor import carry_out, clock
from xds_server.rollout.publisher import Publisher
from xds_server.rollout.waves import Action

LOOK: Final = 0.5  # seconds between two looks of somebody who watches
REMEMBERED: Final = 32  # rollout blocks, by revision: they never change


class Rollouts:
    def __init__(self, engine: AsyncEngine, publisher: Publisher) -> None:
        self._engine, self._publisher = engine, publisher
        self._blocks: OrderedDict[int, Rollout] = OrderedDict()

    async def now(self) -> dict[str, Any]:
        """`rollout`: the open one, else the one that ended last; null for none. `frozen`: by whom and why, or null."""

        async def work(connection: AsyncConnection) -> dict[str, Any]:
            course = await rollouts.course(connection)
            row = course.rollout or next(iter(await rollouts.history(connection, limit=1)), None)
            shown = None if row is None else await self._shown(connection, row)
            return {"rollout": shown, "frozen": _frozen(course.freeze)}

        return await engines.run(self._engine, work)

    async def one(self, revision: int) -> dict[str, Any]:
        """The rollout of that revision. Raises ApiError 404."""

        async def work(connection: AsyncConnection) -> dict[str, Any]:
            row = await rollouts.get(connection, revision)
            if row is None:
                raise not_found(f"rollout of a revision {revision}")
            frozen = _frozen(await rollouts.frozen_by(connection))
            return {"rollout": await self._shown(connection, row), "frozen": frozen}

        return await engines.run(self._engine, work)

    async def history(self, limit: int, before: int | None) -> tuple[RolloutRow, ...]:
        return await engines.run(self._engine, lambda c: rollouts.history(c, limit=limit, before=before))

    async def act(self, actor: str, action: Action, *, everywhere: bool = False) -> dict[str, Any]:
        """Raises ApiError 409 if that cannot be done to what is on its way now."""

        async def work(connection: AsyncConnection) -> dict[str, Any]:
            await rollouts.take_turn(connection, wait=True)
            course = await rollouts.course(connection)
            if course.rollout is None:
                raise ApiError(409, "no_rollout", "no rollout is on its way")
            if course.freeze is not None and action in ("resume", "promote"):
                raise ApiError(409, "frozen", f"rollouts are frozen by {course.freeze.by}: {course.freeze.reason}")
            block = await self._block(connection, course.rollout.revision)
            fleet, now = await nodes.fleet(connection), await clock(connection)
            try:
                move = waves.order(course.rollout, action, fleet, now, block, everywhere=everywhere)
            except waves.NotNow as error:
                raise ApiError(409, "not_now", str(error)) from error
            row = await carry_out(connection, course, course.rollout, move, actor)
            return await self._shown(connection, row)

        return await engines.run(self._engine, work)

    async def freeze(self, actor: str, reason: str) -> dict[str, Any]:
        frozen = await engines.run(self._engine, lambda c: rollouts.freeze(c, actor, reason))
        return {"frozen": _frozen(frozen)}

    async def unfreeze(self, actor: str) -> bool:
        return await engines.run(self._engine, lambda c: rollouts.unfreeze(c, actor))

    async def watch(self) -> AsyncGenerator[dict[str, Any]]:
        """What `now` says, whenever it says something else."""
        said = ""
        while True:
            found = await self.now()
            text = json.dumps(found)
            if text != said:
                said = text
                yield found
            await self._publisher.changed_within(LOOK)

    async def _shown(self, connection: AsyncConnection, row: RolloutRow) -> dict[str, Any]:
        block = await self._block(connection, row.revision)
        return shown(row, block, await nodes.fleet(connection), await clock(connection))

    async def _block(self, connection: AsyncConnection, revision: int) -> Rollout:
        if revision not in self._blocks:
            objects = await revisions.load(connection, revision)
            body: dict[str, Any] = next((item.body for item in objects if item.kind == "rollout"), {})
            self._blocks[revision] = Rollout.model_validate_json(
                json.dumps(body)
            )  # as it was written: lists are tuples
            while len(self._blocks) > REMEMBERED:
                self._blocks.popitem(last=False)
        return self._blocks[revision]


def shown(row: RolloutRow, block: Rollout, fleet: Fleet, now: datetime) -> dict[str, Any]:
    """A rollout as JSON. Times in seconds; nodes of waves that have begun only."""
    return {
        **summary(row),
        "waves": [_wave(row, index, block, fleet, now) for index in range(len(waves.waves_of(block)))],
        "halt_on": {**block.halt_on.model_dump(), "ack_timeout": block.halt_on.ack_timeout / 1000},
        "on_halt": block.on_halt,
        "excused": sorted(row.excused),
        "events": [dict(event) for event in row.events],
    }


def summary(row: RolloutRow) -> dict[str, Any]:
    """`by_revision`: what took its place, if something did."""
    last = row.events[-1] if row.events else {}
    return {
        "revision": row.revision,
        "base": row.base,
        "state": row.state,
        "reason": row.reason,
        "wave": row.wave,
        "began_at": row.events[0]["at"] if row.events else None,
        "changed_at": last.get("at"),
        "by_revision": last.get("by_revision"),
    }


def _wave(row: RolloutRow, index: int, block: Rollout, fleet: Fleet, now: datetime) -> dict[str, Any]:
    wave = waves.waves_of(block)[index]
    members: Sequence[str] = row.members[index] if index < len(row.members) else ()
    left = waves.soak_left(row, block, now) if index == row.wave and row.open else None
    return {
        "name": wave.name,
        "state": _state(row, index),
        "soak": wave.soak / 1000,
        "soak_left": None if left is None else round(left, 1),
        "nodes": {
            name: list(found) for name, found in asdict(waves.tally(row, members, fleet, now, block.halt_on)).items()
        },
    }


def _state(row: RolloutRow, index: int) -> str:
    """`waiting`, `running`, `soaking` or `done`."""
    if index > row.wave:
        return "waiting"
    if index < row.wave or row.state == "done":
        return "done"
    return "running" if row.acked_at is None else "soaking"


def _frozen(freeze: FreezeRow | None) -> dict[str, Any] | None:
    if freeze is None:
        return None
    return {"reason": freeze.reason, "by": freeze.by, "at": freeze.at.isoformat().replace("+00:00", "Z")}
