"""Apply: files onto the head revision, checked, compiled, shown to real Envoy, stored as one revision or not at all."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from admin.problems import ApiError, finding, invalid
from db import engine as engines
from db import revisions, rollouts
from db.rollouts import Way
from db.rows import RevisionRow
from gateway import document, read, render
from gateway.document import Change, Object
from gateway.places import Where
from gateway.problems import Problem
from gateway.read import Loaded
from gateway.shrink import Shrink, shrinks
from xds_server.compiler.certificates import of_dates
from xds_server.rollout.candidate import Builder, Candidate
from xds_server.rollout.stored import from_row, to_row

MOST_SINCE: Final = 20  # revisions that a refusal lists
RACES: Final = 5  # how often an apply that named no revision starts again after losing a race


@dataclass(frozen=True)
class Applied:
    """`revision`: the head afterwards. `changed`: kind, name and what happened; nothing if no revision was made."""

    revision: int
    version: str
    changed: tuple[tuple[str, str, str], ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Head:
    """What a change is made onto."""

    number: int
    version: str
    objects: tuple[Object, ...]


@dataclass(frozen=True)
class Apply:
    """What to apply. `expected_revision`: refuse if the head is another one. `prune`: delete what is not written.

    `allow_shrink`: take away much at once (see `gateway.shrink`). `supersede`: take the place of a running rollout.
    `owner`: the only one whose objects may change.
    """

    files: Sequence[tuple[str, str]]
    message: str = ""
    prune: bool = False
    dry_run: bool = False
    expected_revision: int | None = None
    allow_shrink: bool = False
    supersede: bool = False
    git_commit: str = ""
    owner: str | None = None


class Applier:
    def __init__(self, engine: AsyncEngine, builder: Builder) -> None:
        self._engine = engine
        self._builder = builder

    async def apply(self, actor: str, wanted: Apply) -> Applied:
        """Raises ApiError: 422 with every problem, 409 when the head moved or an object is somebody else's."""
        for _ in range(RACES):
            try:
                return await self._once(actor, wanted)
            except revisions.Conflict as conflict:
                if wanted.expected_revision is not None:
                    raise await self.moved(conflict.head, conflict.expected) from conflict
                await asyncio.sleep(random.uniform(0, 0.05))  # noqa: S311 - only to let the other one finish
        raise ApiError(409, "conflict", "others keep changing the gateway: try again")

    async def _once(self, actor: str, wanted: Apply) -> Applied:
        head = await self.head()
        if wanted.expected_revision not in (None, head.number):
            raise await self.moved(head.number, wanted.expected_revision or 0)
        loaded, change = await asyncio.to_thread(merge_onto, wanted, head)
        if change.problems:
            raise taken(change.problems, loaded)
        if wanted.owner is not None:
            only_of(wanted.owner, change)
        warnings = accepted(loaded.problems, loaded)
        if change.empty and not wanted.allow_shrink:
            return Applied(head.number, head.version, (), warnings)
        shrunk = shrinks(head.objects, change.objects)
        if shrunk and not wanted.allow_shrink:
            raise shrinking(shrunk)
        candidate = await self.compile(loaded, head.number + 1)
        warnings += accepted((*of_secrets(candidate), *self.of_services(loaded, candidate)), loaded)
        changed = _actions(change)
        if wanted.dry_run:
            return Applied(head.number, candidate.snapshot.version, changed, warnings)
        return await self.store(actor, wanted, head, change, candidate.snapshot.version, warnings)

    async def store(
        self, actor: str, wanted: Apply, head: Head, change: Change, version: str, warnings: tuple[Problem, ...]
    ) -> Applied:
        """What passed the gate becomes a revision. Raises ApiError 409, revisions.Conflict."""
        try:
            stored = await self._commit(actor, wanted, head, change, version)
        except rollouts.Running as running:
            raise on_its_way(running) from running
        return Applied(stored.number, stored.digest, _actions(change), warnings)

    async def head(self) -> Head:
        async def work(connection: AsyncConnection) -> Head:
            number = (await revisions.head(connection)).revision
            if not number:
                return Head(0, "", ())
            rows = await revisions.load(connection, number)
            return Head(number, (await revisions.get(connection, number)).digest, tuple(map(from_row, rows)))

        return await engines.run(self._engine, work)

    async def moved(self, head: int, expected: int) -> ApiError:
        """409 that says what was committed after `expected`."""
        rows = await engines.run(self._engine, lambda c: revisions.history(c, limit=MOST_SINCE))
        return moved(head, expected, [row for row in rows if row.number > expected])

    async def compile(self, loaded: Loaded, revision: int) -> Candidate:
        if loaded.gateway is None:
            raise invalid(loaded.problems, loaded.where)
        candidate = await self._builder.build(loaded.gateway, revision)
        accepted((*candidate.problems, *candidate.refused), loaded)
        return candidate

    def of_services(self, loaded: Loaded, candidate: Candidate) -> tuple[Problem, ...]:
        """What is wrong with endpoints now: a service of which nobody has told any is no reason to refuse."""
        return self._builder.assign(loaded.gateway, candidate.snapshot).problems if loaded.gateway else ()

    async def _commit(self, actor: str, wanted: Apply, head: Head, change: Change, version: str) -> RevisionRow:
        rows = [to_row(item) for item in change.objects]

        async def work(connection: AsyncConnection) -> RevisionRow:
            return await revisions.commit(
                connection,
                expected_revision=head.number,
                objects=rows,
                author=actor,
                message=wanted.message,
                digest=version,
                allow_shrink=wanted.allow_shrink,
                git_commit=wanted.git_commit,
                way=Way(supersede=wanted.supersede),
            )

        return await engines.run(self._engine, work)


def only_of(owner: str, change: Change) -> None:
    """Raises ApiError 403 for a change of anything that is not `owner`'s."""
    others = {item.owner for item in (*change.created, *change.updated, *change.deleted)} - {owner}
    if others:
        whose = ", ".join(sorted(others))
        raise ApiError(403, "forbidden", f"the token is for what {owner} owns, not {whose}: nothing was stored")


def moved(head: int, expected: int | None, since: Sequence[RevisionRow] = ()) -> ApiError:
    """409; `since`: what was committed meanwhile, the newest first."""
    told = [{"revision": row.number, "author": row.author, "message": row.message} for row in since]
    return ApiError(409, "conflict", f"the head is revision {head}, not {expected}", head=head, since=told)


def on_its_way(running: rollouts.Running) -> ApiError:
    """409: two changes on their way at once could not be told apart when something goes wrong."""
    help_ = (
        "wait for it (gwctl rollout watch), end it (gwctl rollout abort), or take its place: gwctl apply --supersede"
    )
    errors = [finding("/supersede", str(running), help_)]
    return ApiError(409, "rollout_running", f"{running}: nothing was stored", errors=errors, revision=running.revision)


def shrinking(shrunk: Sequence[Shrink]) -> ApiError:
    """409: much would go, and nobody said that it shall."""
    what = " and ".join(map(str, shrunk))
    told = finding("/allow_shrink", f"this takes away {what}", "if that is meant: gwctl apply --allow-shrink")
    return ApiError(409, "shrinks", f"this takes away {what}: nothing was stored", errors=[told])


def taken(problems: Sequence[Problem], loaded: Loaded) -> ApiError:
    """409: objects of other owners."""
    where = Where.of(loaded.objects, loaded.where.sources.values())  # the files that were sent, not the owners'
    errors = render.as_json(problems, where)
    return ApiError(409, "wrong_owner", "objects belong to other owners: nothing was stored", errors=errors)


def merge_onto(wanted: Apply, head: Head) -> tuple[Loaded, Change]:
    """Reads the files onto the head's objects. What is wrong with a file comes before whose object it is."""
    change = Change()

    def merge(new: tuple[Object, ...]) -> tuple[Object, ...]:
        nonlocal change
        change = document.apply(head.objects, new, prune=wanted.prune)
        written = {item.key for item in new}
        # places of objects that these files do not write say which revision's files they are in
        return tuple(item if item.key in written else _from(item, head.number) for item in change.objects)

    loaded = read.load(wanted.files, merge)
    if change.problems and not loaded.ok:
        change = replace(change, problems=())
    return loaded, change


def _from(item: Object, revision: int) -> Object:
    return replace(item, file=f"{item.file}@{revision}")


def accepted(problems: Sequence[Problem], loaded: Loaded) -> tuple[Problem, ...]:
    """The warnings; raises 422 if there is an error among the problems."""
    placed = tuple(map(loaded.where.placed, problems))
    if any(problem.severity == "error" for problem in placed):
        raise invalid(placed, loaded.where)
    return placed


def of_secrets(candidate: Candidate) -> tuple[Problem, ...]:
    """What is wrong with secrets that the document names, today's dates included."""
    return (*candidate.problems, *of_dates(candidate.dated, datetime.now(UTC)))


def _actions(change: Change) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (item.kind, item.name, action)
        for action, items in (("created", change.created), ("updated", change.updated), ("deleted", change.deleted))
        for item in items
    )
