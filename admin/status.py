"""What is out there: which revision the fleet is given, which node has taken it, which one refused it and why.

All of it is in memory, so it is answered while the database is away.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from db.rows import RolloutRow
from gateway import render
from gateway.problems import Path, Place, dotted
from xds_server.ads.board import Nack, NodeRow, TypeRow
from xds_server.ads.groups import view_of
from xds_server.ads.hub import Hub
from xds_server.ads.versions import parsed, warnings
from xds_server.resources import Snapshot
from xds_server.rollout.culprits import Culprits, Refusal
from xds_server.rollout.publisher import Failure, Publisher, State

Placing = Callable[[str, Nack], tuple[Path | None, Place | None]]


class Status:
    def __init__(self, publisher: Publisher, hub: Hub, culprits: Culprits) -> None:
        self._publisher = publisher
        self._hub = hub
        self._culprits = culprits

    def now(self, revision: int | None = None) -> dict[str, Any]:
        """`state` is about `revision`, by default the newest one known."""
        state = self._publisher.state
        asked = revision if revision is not None else state.newest
        return {
            "revision": state.newest,
            "state": self._outcome(asked),
            "published": _published(state),
            "failure": _failure(state.failure),
            "rollout": _rollout(state.rollout),
            "nodes": [node(row, given(state, row.id), self._place) for row in self._hub.board.rows],
            "database": {
                "reachable": self._publisher.watch.connected,
                "error": self._publisher.watch.last_error or None,
            },
        }

    async def wait(self, revision: int, seconds: float) -> dict[str, Any]:
        """Returns once `revision` has an outcome (all have it, one refused, it failed), or `seconds` are over."""
        refusals = asyncio.Event()
        forget = self._hub.listen(lambda _row, _event: refusals.set())
        try:
            async with asyncio.timeout(seconds):
                while self._outcome(revision) == "pending":
                    refusals.clear()
                    await self._news(revision, refusals, seconds)
        except TimeoutError:
            pass
        finally:
            forget()
        return self.now(revision)

    async def _news(self, revision: int, refusals: asyncio.Event, seconds: float) -> None:
        """Until something happened that can change the outcome."""
        waits = [self._publisher.changed(), refusals.wait()]
        published = self._publisher.state.published
        if published is not None and published.snapshot.revision >= revision:
            waits.append(_converged(self._hub, published.snapshot, seconds))
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _outcome(self, revision: int) -> str:
        """`synced`, `nacked`, `failed` or `pending`."""
        state = self._publisher.state
        if state.failure is not None and state.failure.revision >= revision:
            return "failed"
        if state.published is None or state.published.snapshot.revision < revision:
            return "pending"
        snapshot = state.published.snapshot
        if any(row.withheld or refuses(row, snapshot) for row in self._hub.board.rows if row.connected):
            return "nacked"
        return "synced" if self._hub.board.synced(snapshot) else "pending"

    def _place(self, url: str, nack: Nack) -> tuple[Path | None, Place | None]:
        """What of the document the node refused, and where that is written."""
        path = self._culprits.path(Refusal(url, nack.version, nack.message, nack.names))
        published = self._publisher.state.newest_compiled
        return path, published.where.locate(path) if published and path else None


async def _converged(hub: Hub, snapshot: Snapshot, seconds: float) -> None:
    await hub.converged(snapshot, seconds)


def given(state: State, node_id: str) -> Snapshot | None:
    """What is given to a node of that name: nodes of a rollout's started waves get its revision, others what is out."""
    taken = state.target is not None and state.rollout is not None and node_id in state.rollout.admitted
    chosen = state.target if taken else state.published
    return chosen.snapshot if chosen is not None else None


def refuses(row: NodeRow, snapshot: Snapshot) -> bool:
    """Whether the node refused this very snapshot, of some type."""
    snapshot = view_of(snapshot, row.node)
    return any(
        entry.nack is not None and url in snapshot.types and entry.nack.version == snapshot.types[url].version
        for url, entry in row.types.items()
    )


def state_of(row: NodeRow, snapshot: Snapshot | None) -> str:
    """`synced`, `stale`, `nacked`, `outdated` (its Envoy is too old for the newest) or `gone`."""
    if not row.connected:
        return "gone"
    if row.withheld:
        return "outdated"
    if any(entry.nack is not None for entry in row.types.values()):
        return "nacked"
    return "synced" if snapshot is not None and row.types and row.synced(snapshot) else "stale"


def node(row: NodeRow, snapshot: Snapshot | None, place: Placing) -> dict[str, Any]:
    view = None if snapshot is None else view_of(snapshot, row.node)
    return {
        "id": row.id,
        "cluster": row.cluster,
        "build": row.build,
        "mode": row.mode,
        "peer": row.peer,
        "state": state_of(row, snapshot),
        "warnings": [*([f"it is not offered the newest: {row.withheld}"] if row.withheld else []), *holes(row)],
        "connected": row.connected,
        "since": _time(row.since),
        "last_seen": _time(row.last_seen),
        "types": {url: _type(url, entry, view, place) for url, entry in row.types.items()},
    }


def holes(row: NodeRow) -> tuple[str, ...]:
    """What is known against the version of Envoy that a connected node has."""
    return warnings(parsed(row.build)) if row.connected else ()


def _type(url: str, entry: TypeRow, snapshot: Snapshot | None, place: Placing) -> dict[str, Any]:
    wanted = snapshot.types[url].version if snapshot is not None and url in snapshot.types else ""
    return {
        "version": wanted,
        "sent": entry.sent_version,
        "acked": entry.acked_version,
        "current": entry.current_version,
        "nack": _nack(url, entry.nack, place) if entry.nack else None,
    }


def _nack(url: str, nack: Nack, placing: Placing) -> dict[str, Any]:
    path, place = placing(url, nack)
    return {
        "version": nack.version,
        "message": nack.message,
        "resources": list(nack.names),
        "at": _time(nack.at),
        "path": dotted(path) if path else None,
        "file": place.file if place else None,
        "line": place.line if place else None,
        "column": place.column if place else None,
    }


def _published(state: State) -> dict[str, Any] | None:
    if state.published is None:
        return None
    return {
        "revision": state.published.snapshot.revision,
        "version": state.published.snapshot.version,
        "at": _time(state.published.at),
        "from_disk": state.published.from_disk,
        "problems": render.as_json(state.published.problems_at(datetime.now(UTC))),
    }


def _rollout(row: RolloutRow | None) -> dict[str, Any] | None:
    """The open one; `gwctl rollout status` tells more."""
    return (
        {"revision": row.revision, "state": row.state, "wave": row.wave + 1} if row is not None and row.open else None
    )


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {
        "revision": failure.revision,
        "reason": failure.reason,
        "problems": render.as_json(failure.problems),
        "at": _time(failure.at),
    }


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
