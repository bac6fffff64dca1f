"""Plan: everything an apply does but storing, and what would be different; and how two revisions differ.

The fleet's part is what is known of it now: the nodes of this replica, and their views of what is published.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from admin.apply import Applier, Apply, Head, accepted, merge_onto, moved, of_secrets, taken
from admin.problems import invalid
from admin.stored import objects_of
from gateway import read, render
from gateway.document import Object
from gateway.places import Where
from gateway.plan import Plan, Side, made
from gateway.plan import as_json as plan_json
from gateway.problems import Problem
from gateway.read import Loaded
from gateway.suppress import without_accepted
from xds_server.ads.board import NodeRow
from xds_server.ads.groups import view_of
from xds_server.ads.hub import Hub
from xds_server.compiler import shown
from xds_server.compiler.difference import as_json, difference
from xds_server.resources import RATE_LIMITS, Snapshot
from xds_server.rollout.candidate import Builder
from xds_server.rollout.publisher import Publisher

MOST_NODES: Final = 100
"""Ids of a group that are listed."""

EMPTY: Final = Snapshot.of(0, ())


@dataclass(frozen=True)
class Compiled:
    """A side and what Envoy is given of it, with the endpoints of now."""

    side: Side
    snapshot: Snapshot


class Planner:
    """Stores nothing and publishes nothing."""

    def __init__(self, engine: AsyncEngine, applier: Applier, builder: Builder, publisher: Publisher, hub: Hub) -> None:
        self._engine = engine
        self._applier = applier
        self._builder = builder
        self._publisher = publisher
        self._hub = hub
        self._last: tuple[int, Side] | None = None  # a revision never changes, and the head is asked for often

    async def plan(self, wanted: Apply, *, envoy: bool = True, xds: bool = False) -> dict[str, Any]:
        """The document `gwctl.plan/v1`. Raises ApiError as an apply would, but for what shrinks: that is told."""
        head = await self._applier.head()
        if wanted.expected_revision not in (None, head.number):
            raise moved(head.number, wanted.expected_revision)
        loaded, change = await asyncio.to_thread(merge_onto, wanted, head)
        if change.problems:
            raise taken(change.problems, loaded)
        if loaded.gateway is None:
            raise invalid(loaded.problems, loaded.where)
        side = Side(change.objects, loaded.gateway, loaded.problems, loaded.where)
        base = {"revision": head.number, "version": head.version}
        if change.empty:
            found = await asyncio.to_thread(made, side, side)
            return self._document(found, base, Compiled(side, EMPTY), Compiled(side, EMPTY), xds=False, envoy=False)
        before = await self._before(head)
        after = await self._after(loaded, side, head.number + 1, envoy=envoy)
        found = await asyncio.to_thread(made, before.side, after.side)
        asked = envoy and self._builder.envoy is not None
        return await asyncio.to_thread(self._document, found, base, before, after, xds=xds, envoy=asked)

    async def difference(self, old: int, new: int, *, xds: bool = False) -> dict[str, Any]:
        """The same document for two revisions, 0 being the empty one. Raises ApiError 404."""
        before, after = [await self._compiled(number, await self._side(number)) for number in (old, new)]
        found = await asyncio.to_thread(made, before.side, after.side)
        base = {"revision": old, "version": before.snapshot.version}
        return await asyncio.to_thread(self._document, found, base, before, after, xds=xds, envoy=False)

    async def _before(self, head: Head) -> Compiled:
        """What is published, if that is the head; else the head is compiled as it would be."""
        side = await self._side(head.number, head.objects)
        published = self._publisher.state.published
        if published is None or published.snapshot.revision != head.number:
            return await self._compiled(head.number, side)
        problems = published.problems_at(datetime.now(UTC))
        return Compiled(_with(side, problems), published.snapshot)

    async def _after(self, loaded: Loaded, side: Side, revision: int, *, envoy: bool) -> Compiled:
        if envoy:
            candidate = await self._applier.compile(loaded, revision)
        else:
            candidate = await self._builder.compile(side.gateway, revision)
            accepted(candidate.problems, loaded)
        assigned = self._builder.assign(side.gateway, candidate.snapshot)
        return Compiled(_with(side, (*of_secrets(candidate), *assigned.problems)), assigned.snapshot)

    async def _compiled(self, revision: int, side: Side) -> Compiled:
        candidate = await self._builder.compile(side.gateway, revision)
        assigned = self._builder.assign(side.gateway, candidate.snapshot)
        return Compiled(_with(side, (*of_secrets(candidate), *assigned.problems)), assigned.snapshot)

    async def _side(self, number: int, objects: tuple[Object, ...] | None = None) -> Side:
        if self._last is None or self._last[0] != number:
            found = await objects_of(self._engine, number) if objects is None else objects
            self._last = number, await asyncio.to_thread(_checked, found, number)
        return self._last[1]

    def _document(
        self,
        found: Plan,
        base: dict[str, Any],
        before: Compiled,
        after: Compiled,
        *,
        xds: bool,
        envoy: bool,
    ) -> dict[str, Any]:
        compiled = difference(before.snapshot, after.snapshot)
        lines = shown.differences(before.snapshot, after.snapshot, compiled) if xds else ()
        return {
            **plan_json(found),
            "base": base,
            "version": base["version"] if found.empty else after.snapshot.version,
            "envoy": envoy,
            "resources": as_json(compiled),
            "nodes": fleet(self._hub.board.rows, before.snapshot, after.snapshot),
            "waves": len(after.side.gateway.rollout.waves),
            "problems": render.as_json(after.side.problems, after.side.where),
            **({"xds": shown.as_json(lines)} if xds else {}),
        }


def fleet(rows: Iterable[NodeRow], before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """The connected nodes that would be sent something, by what that is."""
    connected = {row.id: row.node for row in rows if row.connected}
    groups: dict[tuple[str, str], list[str]] = {}
    sizes: dict[tuple[str, str], int] = {}
    for name, node in sorted(connected.items()):
        old, new = view_of(before, node), view_of(after, node)
        key = (old.version, new.version)
        if key not in sizes:
            types = difference(old, new).types
            sizes[key] = sum(one.size for one in types if one.type_url != RATE_LIMITS)
        if sizes[key]:
            groups.setdefault(key, []).append(name)
    return {
        "connected": len(connected),
        "affected": sum(map(len, groups.values())),
        "groups": [
            {"count": len(names), "nodes": names[:MOST_NODES], "bytes": sizes[key]} for key, names in groups.items()
        ],
    }


def _checked(objects: tuple[Object, ...], number: int) -> Side:
    """The revision as a side; its places say which revision's files they are in."""
    here = tuple(replace(item, file=f"{item.file}@{number}") for item in objects)
    if not here:
        return Side()
    gateway, problems = read.check_objects(here)
    where = Where.of(here)
    if gateway is None:  # a rule of this version that the revision's did not have
        raise invalid(problems, where)
    return Side(here, gateway, tuple(without_accepted(list(problems), where)), where)


def _with(side: Side, problems: Iterable[Problem]) -> Side:
    """The side with what is known of it once it is compiled."""
    placed = tuple(map(side.where.placed, problems))
    return Side(side.objects, side.gateway, (*side.problems, *placed), side.where)
