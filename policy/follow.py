"""Following the database's head: a new revision becomes the view in force, a changed key is forgotten."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from db import engine as engines
from db import revisions, rollouts
from db.rows import ObjectRow
from db.watch import HeadWatch
from gateway.document import Object
from gateway.read import check_objects
from policy.authz.directory import KeyTable
from policy.authz.store import KeyStore
from policy.faults import where
from policy.unavailable import Unavailable
from policy.view import PolicyView, Views

log = structlog.get_logger(__name__)

PULSE: Final = 0.25
PAUSE: Final = 0.5
"""Seconds: between reports of whether the feed is connected, and before work that failed is tried again."""


class Newest:
    """One slot: who reads gets the newest value, never a queue of old ones."""

    def __init__(self) -> None:
        self.value = 0
        self._changed = asyncio.Event()

    def put(self, value: int) -> None:
        self.value = value
        self._changed.set()

    async def take(self) -> int:
        await self._changed.wait()
        self._changed.clear()
        return self.value


class Follower:
    """`loaded` is called once, when the first view is in force.

    Keys and revisions are followed apart: a revocation does not wait for a large gateway to be read.
    """

    def __init__(
        self, engine: AsyncEngine, watch: HeadWatch, views: Views, keys: KeyStore, loaded: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._table = KeyTable(engine)
        self._watch = watch
        self._views = views
        self._keys = keys
        self._loaded = loaded
        self._newest_keys, self._newest_revision = Newest(), Newest()
        self._keys_version: int | None = None
        self._asked_by: tuple[int, ...] = ()

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(_each(self._newest_keys, self._follow_keys))
            tasks.create_task(_each(self._newest_revision, self._follow_revision))
            tasks.create_task(self._report())

    async def _listen(self) -> None:
        async for head in self._watch.heads():
            self._newest_keys.put(head.keys_version)
            self._newest_revision.put(head.revision)

    async def _report(self) -> None:
        while True:
            self._keys.fed(self._watch.connected and self._keys_version == self._newest_keys.value)
            await asyncio.sleep(PULSE)

    async def _follow_keys(self, version: int) -> None:
        if version == self._keys_version:
            return
        if self._keys_version is not None and version < self._keys_version:  # an older database was put in place
            self._keys_version = None
        if self._keys_version is None:
            self._keys.forget()
        self._keys.changed(await self._table.changes_since(self._keys_version or 0))
        self._keys_version = version

    async def _follow_revision(self, _head: int) -> None:
        """While a revision goes out in waves, most Envoys ask by what the rollout began from."""
        course = await engines.run(self._engine, rollouts.course)
        revisions_asked_by = (course.head,) if course.rollout is None else (course.rollout.base, course.head)
        if revisions_asked_by == self._asked_by:
            return
        views = [view for number in revisions_asked_by if (view := await self._view(number)) is not None]
        if views:
            first, self._views.current = self._views.current is None, views[0].beside(views[-1])
            log.info("view_in_force", revision=views[0].revision)
            if first:
                self._loaded()
        self._asked_by = revisions_asked_by

    async def _view(self, revision: int) -> PolicyView | None:
        rows = await engines.run(self._engine, lambda connection: revisions.load(connection, revision))
        return await asyncio.to_thread(view_of, rows, revision)  # seconds for a large gateway: decisions go on


async def _each(newest: Newest, follow: Callable[[int], Awaitable[None]]) -> None:
    """What fails is tried again with what is newest then; meanwhile what was in force stays so."""
    while True:
        value = await newest.take()
        while not await _done(follow, value):
            await asyncio.sleep(PAUSE)
            value = newest.value


async def _done(follow: Callable[[int], Awaitable[None]], value: int) -> bool:
    try:
        await follow(value)
    except (Unavailable, engines.Unavailable) as error:
        log.warning("head_not_followed", value=value, reason=str(error))
    except Exception as error:
        log.error("head_not_followed", value=value, **where(error))
    else:
        return True
    return False


def view_of(rows: Sequence[ObjectRow], revision: int) -> PolicyView | None:
    """The view of a stored revision, or None when this version of us does not understand it: the old view stays."""
    gateway, problems = check_objects([_object(row) for row in rows])
    if gateway is None:
        errors = [problem for problem in problems if problem.severity == "error"]
        log.error("revision_not_understood", revision=revision, problems=[f"{p.code} {p.message}" for p in errors[:5]])
        return None
    return PolicyView.of(gateway, revision)


def _object(row: ObjectRow) -> Object:
    return Object(row.kind, row.name, row.owner, row.labels, row.body, row.file, {})
