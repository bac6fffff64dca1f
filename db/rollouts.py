"""Rollouts: revisions that reach the fleet in waves, and the switch that holds them all.

There is at most one open rollout. It begins in the transaction that commits its revision, so no control plane ever sees
the one without the other; every later change of it takes the head's lock, is audited and is told to all control planes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from db import audit, canonical, tables
from db import head as heads
from db.head import LockedHead
from db.rows import FreezeRow, ObjectRow, RolloutRow

TURN: Final = 0x726F6C6C  # the advisory lock of whoever moves a rollout: "roll"
COLUMNS: Final = frozenset({"state", "wave", "members", "excused", "wave_at", "acked_at", "reason"})

R = tables.rollouts.c


class Running(Exception):  # noqa: N818 - the word of the command line
    """Another revision is on its way to the fleet: `revision`, which is `state`."""

    def __init__(self, revision: int, state: str) -> None:
        super().__init__(f"the rollout of revision {revision} is {state}")
        self.revision = revision
        self.state = state


class Overtaken(Exception):  # noqa: N818 - an outcome
    """Somebody else has moved the rollout meanwhile."""


@dataclass(frozen=True, slots=True)
class Course:
    """What the fleet is to be given: `head`, but for an open `rollout`. `version`: `Head.rollout_version`."""

    head: int
    version: int
    rollout: RolloutRow | None
    freeze: FreezeRow | None


@dataclass(frozen=True, slots=True)
class Way:
    """How a commit reaches the fleet.

    `supersede`: in the place of a revision that is on its way. `at_once`: to all nodes, whatever the document says and
    although rollouts are frozen; what is on its way ends.
    """

    supersede: bool = False
    at_once: bool = False


async def course(connection: AsyncConnection) -> Course:
    """One reading: a rollout is never seen without its revision, nor the other way round."""
    joined = tables.head.outerjoin(tables.rollouts, text(tables.OPEN)).outerjoin(tables.freezes, text("true"))
    columns = (
        tables.head.c.revision.label("head"),
        tables.head.c.rollout_version,
        *(column.label(f"rollout_{column.name}") for column in R),
        *(column.label(f"freeze_{column.name}") for column in tables.freezes.c),
    )
    found = (await connection.execute(select(*columns).select_from(joined))).one()._mapping
    rollout = {column.name: found[f"rollout_{column.name}"] for column in R}
    frozen = {name: found[f"freeze_{name}"] for name in ("reason", "by", "at")}
    return Course(
        found["head"],
        found["rollout_version"],
        _row(rollout) if rollout["revision"] is not None else None,
        FreezeRow(**frozen) if frozen["at"] is not None else None,
    )


async def take_turn(connection: AsyncConnection, *, wait: bool = False) -> bool:
    """Of all control planes one at a time moves a rollout, until its transaction ends; whoever dies lets go.

    False if it is another one's turn, unless `wait`.
    """
    lock = "pg_advisory_xact_lock" if wait else "pg_try_advisory_xact_lock"
    return (await connection.execute(text(f"SELECT {lock}({TURN})"))).scalar_one() is not False


async def current(connection: AsyncConnection) -> RolloutRow | None:
    """The open one."""
    found = (await connection.execute(select(tables.rollouts).where(text(tables.OPEN)))).one_or_none()
    return None if found is None else _row(found)


async def get(connection: AsyncConnection, revision: int) -> RolloutRow | None:
    found = (await connection.execute(select(tables.rollouts).where(R.revision == revision))).one_or_none()
    return None if found is None else _row(found)


async def history(connection: AsyncConnection, *, limit: int = 50, before: int | None = None) -> tuple[RolloutRow, ...]:
    """The newest first; `before`: only of smaller revisions."""
    query = select(tables.rollouts).order_by(R.revision.desc()).limit(limit)
    if before is not None:
        query = query.where(R.revision < before)
    return tuple(_row(found) for found in await connection.execute(query))


async def begin(
    connection: AsyncConnection, locked: LockedHead, revision: int, objects: Iterable[ObjectRow], author: str, way: Way
) -> None:
    """Part of the commit of `revision`: makes its rollout if it is to go out in waves, or may not go out yet.

    It takes the place of one that has reached no node; of another one only if it is told so. Raises Running.
    """
    before, base = await current(connection), locked.head.revision
    if before is not None:
        if before.wave >= 0 and not (way.supersede or way.at_once):
            raise Running(before.revision, before.state)
        base = before.base
        await move(connection, before, author, "superseded", {"state": "superseded"}, by_revision=revision)
    frozen = await frozen_by(connection)
    if not base or way.at_once or not (in_waves(objects) or frozen):  # the first revision has nothing to go back to
        return
    event = {"at": _time(locked.now), "what": "began", "who": author}
    values = {"revision": revision, "base": base, "state": "running", "wave_at": locked.now}
    await connection.execute(insert(tables.rollouts).values(**values, events=canonical.text([event])))
    await heads.advance_rollout(connection)


def in_waves(objects: Iterable[ObjectRow]) -> bool:
    """Whether the document says that it goes out in waves. No way of committing may forget to ask this."""
    return any(row.kind == "rollout" and row.body.get("waves") for row in objects)


async def move(
    connection: AsyncConnection, row: RolloutRow, who: str, what: str, changes: Mapping[str, Any], **told: Any
) -> RolloutRow:
    """Changes the rollout as `row` has it, and notes `what` happened. Raises Overtaken if it is not so any more."""
    locked = await heads.lock(connection)
    event = {"at": _time(locked.now), "what": what, "who": who, **told}
    events = (*row.events, event)
    values = _values({**changes, "events": events}, locked.now)
    same = (R.revision == row.revision) & (R.events == canonical.text(list(row.events)))
    made = await connection.execute(update(tables.rollouts).where(same).values(**values).returning(tables.rollouts))
    found = made.one_or_none()
    if found is None:
        raise Overtaken(f"the rollout of revision {row.revision} was moved by somebody else")
    await audit.append(
        connection, actor=who, action=f"rollout_{what}", object="gateway", revision=row.revision, detail=told
    )
    await heads.advance_rollout(connection)
    return _row(found)


async def frozen_by(connection: AsyncConnection) -> FreezeRow | None:
    columns = tables.freezes.c
    found = (await connection.execute(select(columns.reason, columns.by, columns.at))).one_or_none()
    return None if found is None else FreezeRow(*found)


async def freeze(connection: AsyncConnection, who: str, reason: str) -> FreezeRow:
    """No rollout begins or goes on. Frozen already: that stays as it is."""
    locked = await heads.lock(connection)
    already = await frozen_by(connection)
    if already is not None:
        return already
    await connection.execute(insert(tables.freezes).values(id=1, reason=reason, by=who, at=locked.now))
    await _told(connection, who, "rollouts_frozen", {"reason": reason})
    return FreezeRow(reason, who, locked.now)


async def unfreeze(connection: AsyncConnection, who: str) -> bool:
    """Whether they were frozen."""
    await heads.lock(connection)
    if not (await connection.execute(delete(tables.freezes))).rowcount:
        return False
    await _told(connection, who, "rollouts_unfrozen", {})
    return True


async def _told(connection: AsyncConnection, who: str, action: str, detail: Mapping[str, Any]) -> None:
    await audit.append(connection, actor=who, action=action, object="gateway", detail=detail)
    await heads.advance_rollout(connection)


def _values(changes: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """As stored; a time that is True is now."""
    return {name: _stored(value, now) for name, value in changes.items()}


def _stored(value: Any, now: datetime) -> Any:
    if value is True:
        return now
    if isinstance(value, frozenset):
        return canonical.text(sorted(value))
    return canonical.text(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _row(row: Any) -> RolloutRow:
    found = row if isinstance(row, dict) else row._mapping
    return RolloutRow(
        revision=found["revision"],
        base=found["base"],
        state=found["state"],
        wave=found["wave"],
        members=tuple(map(tuple, json.loads(found["members"]))),
        excused=frozenset(json.loads(found["excused"])),
        wave_at=found["wave_at"],
        acked_at=found["acked_at"],
        reason=found["reason"],
        events=tuple(json.loads(found["events"])),
    )


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
