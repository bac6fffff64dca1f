"""From the store's head to the streams: every replica follows the head row and publishes what it compiles from it.

While a rollout is open that is what it began from, and its revision goes to the nodes of the waves that have begun.
The last good snapshot stays whatever happens: a revision that does not compile, that Envoy refuses, a store that is
gone or that suddenly holds nothing. Why the newest revision is not out is kept for `gwctl status`.
"""

import asyncio
import traceback
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import engine as engines
from db import revisions, rollouts
from db.rollouts import Course
from db.rows import FreezeRow, Head, ObjectRow, RolloutRow
from db.watch import HeadWatch
from gateway import read
from gateway.document import Object
from gateway.model import Gateway
from gateway.places import Where
from gateway.problems import Problem
from gateway.shrink import shrinks
from xds_server.ads.views import Trial
from xds_server.compiler.certificates import Dated, of_dates
from xds_server.resources import Snapshot
from xds_server.rollout.candidate import Builder, Inputs
from xds_server.rollout.stored import from_row

log = structlog.get_logger(__name__)

POLL: Final = 1.0  # seconds between looks at the secret store
PATIENCE: Final = 5.0  # seconds that the first revision waits for those who know endpoints
QUIET: Final = 0.02  # seconds without news after which a burst of changes counts as over
LONGEST: Final = 0.2  # seconds after a publication that the next one may be kept back for more
RETRY: Final = 15.0  # seconds until a revision that failed is tried again


class Hub(Protocol):
    def publish(self, snapshot: Snapshot, trial: Trial | None = None) -> None: ...


@dataclass(frozen=True)
class Published:
    """What the fleet is given. `problems`: what is wrong with it and fails closed (a secret that is missing).

    `dated`: its certificates, of which `problems_at` tells those that have run out or will soon. `from_disk`: published
    at `at`, by an earlier process, and read from this replica's disk because the database was away. `told`: what is
    wrong with the endpoints of services.
    """

    snapshot: Snapshot
    gateway: Gateway
    objects: tuple[Object, ...]
    problems: tuple[Problem, ...]
    at: datetime
    dated: tuple[Dated, ...] = ()
    from_disk: bool = False
    told: tuple[Problem, ...] = ()

    @property
    def where(self) -> Where:
        return Where.of(self.objects)

    def problems_at(self, now: datetime) -> tuple[Problem, ...]:
        return (*self.problems, *map(self.where.placed, (*self.told, *of_dates(self.dated, now))))


@dataclass(frozen=True)
class Failure:
    """Why a revision is not published."""

    revision: int
    reason: str
    problems: tuple[Problem, ...]
    at: datetime


@dataclass(frozen=True)
class State:
    """`head`: the newest revision known, None until the store was reached once; 0 while nothing was ever applied.

    `published`: what every node gets that no wave of the open `rollout` has taken; those get `target`, once that is
    compiled. `rollout_version`: of `Head`, as far as it was followed here.
    """

    head: int | None = None
    published: Published | None = None
    failure: Failure | None = None
    target: Published | None = None
    rollout: RolloutRow | None = None
    freeze: FreezeRow | None = None
    rollout_version: int = 0

    @property
    def ready(self) -> bool:
        """Whether this process can serve: it has a snapshot, or knows that there is none to have."""
        return self.published is not None or self.head == 0

    @property
    def newest(self) -> int:
        """The newest revision known, 0 for none."""
        return max(self.head or 0, self.published.snapshot.revision if self.published else 0)

    @property
    def newest_compiled(self) -> Published | None:
        """What some nodes have or will have: a refusal may be about it."""
        return self.target or self.published

    def settled(self, head: Head) -> bool:
        """Whether this revision or a later one is given out, or has failed, and its rollout is where `head` says."""
        given = [one.snapshot.revision for one in (self.published, self.target) if one is not None]
        failed = [self.failure.revision] if self.failure is not None else []
        return max([0, *given, *failed]) >= head.revision and self.rollout_version >= head.rollout_version


class Refused(Exception):  # noqa: N818 - a verdict
    """A revision must not go out."""

    def __init__(self, reason: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.problems = problems


class Publisher:
    """`run` follows the head until cancelled; `state` is always the newest. One per process."""

    def __init__(self, engine: AsyncEngine, watch: HeadWatch, builder: Builder, hub: Hub) -> None:
        self.state = State()
        self.watch = watch
        self._engine = engine
        self._builder = builder
        self._hub = hub
        self._news = asyncio.Event()
        self._changed = asyncio.Event()
        self._head: Head | None = None
        self._course: Course | None = None  # of `_head`
        self._compiled: Published | None = None  # what is published, before the endpoints of services were put in
        self._target: Published | None = None  # the same of the open rollout's revision
        self._made: tuple[tuple[int, Inputs, Published], ...] = ()
        self._tried: tuple[Course, Inputs] | None = None
        self._retry_at = 0.0
        self._published_at = -LONGEST

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._work())
            tasks.create_task(self._builder.services.run())
            tasks.create_task(self._follow_services())

    def resume(self, published: Published) -> None:
        """Serve what an earlier process published, until the store is there to be followed."""
        self._compiled = published
        self._hub.publish(published.snapshot)
        self._builder.key_sets.want(published.gateway)
        self._set(replace(self.state, published=published))
        log.warning("serving_from_disk", revision=published.snapshot.revision, version=published.snapshot.version)

    async def changed(self) -> None:
        """Returns at the next change of `state`."""
        await self._changed.wait()

    async def changed_within(self, seconds: float) -> None:
        """The same, after so long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.changed()

    async def _follow(self) -> None:
        async with aclosing(self.watch.heads()) as heads:
            async for head in heads:
                self._head = head
                self._set(replace(self.state, head=head.revision))
                self._news.set()

    async def _follow_services(self) -> None:
        """Endpoints go out at once, on what is published: nothing is compiled for them."""
        while True:
            await self._builder.services.news()
            if self._compiled is not None:
                self._give()

    async def _work(self) -> None:
        await self._builder.services.complete(PATIENCE)
        while True:
            with suppress(TimeoutError):  # not `wait_for`: Python 3.11's loses a cancellation that meets the news
                async with asyncio.timeout(POLL):
                    await self._news.wait()
            await self._calm()
            self._news.clear()
            await self._publish_if_new()

    async def _calm(self) -> None:
        """Changes in quick succession go out as one; the first of them at once, and none waits longer than LONGEST."""
        now = asyncio.get_running_loop().time
        end = self._published_at + LONGEST
        while self._news.is_set() and (left := end - now()) > 0:
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(QUIET, left)):
                    await self._news.wait()

    async def _publish_if_new(self) -> None:
        head = self._head
        if head is None or not head.revision:
            return
        try:
            course = await self._where_to(head)
            wanted = (course, await asyncio.to_thread(self._builder.stamp))
            if wanted == self._tried and not self._retry_due():
                return
            await self._carry_out(course, wanted[1])
            self._tried = wanted
        except (
            engines.Unavailable,
            OSError,
        ) as error:  # it is tried again at once, and nothing is wrong with the revision
            log.warning("publish_delayed", revision=head.revision, reason=str(error))
        except Refused as refused:
            self._tried = wanted
            self.state = replace(self.state, rollout_version=course.version)
            self._fail(Failure(course.head, refused.reason, refused.problems, datetime.now(UTC)))

    def _retry_due(self) -> bool:
        return self.state.failure is not None and asyncio.get_running_loop().time() >= self._retry_at

    async def _where_to(self, head: Head) -> Course:
        """Read once for each change of the head. Raises Unavailable."""
        known = self._course
        if known is None or (known.head, known.version) != (head.revision, head.rollout_version):
            self._course = known = await engines.run(self._engine, rollouts.course)
        return known

    async def _carry_out(self, course: Course, inputs: Inputs) -> None:
        """Raises Refused, Unavailable, OSError."""
        row = course.rollout
        if row is None:
            self._withdraw(course)
            self._follow_course(course, await self._compile(course.head, inputs), None)
            return
        base = await self._base(row, inputs)
        self._follow_course(course, base, self._known(row.revision, inputs))
        if self._target is None:
            self._follow_course(course, base, await self._compile(row.revision, inputs))

    def _withdraw(self, course: Course) -> None:
        """Nobody has a revision that was undone from now on; what takes its place may have to be compiled first."""
        if self._compiled is not None and self._target is not None and self._target.snapshot.revision != course.head:
            self._follow_course(course, self._compiled, None)

    async def _base(self, row: RolloutRow, inputs: Inputs) -> Published:
        """What the rollout began from; if that cannot be published (any more), what is."""
        try:
            return await self._compile(row.base, inputs)
        except Refused:
            if self._compiled is None:
                raise
            return self._compiled

    async def _compile(self, revision: int, inputs: Inputs) -> Published:
        """Once for each revision and what else goes into it. Raises Refused, Unavailable, OSError."""
        current = self.state.published
        if current is not None and revision < current.snapshot.revision:
            raise Refused(f"the store's head went back from revision {current.snapshot.revision} to {revision}")
        known = self._known(revision, inputs)
        if known is not None:
            return known
        objects = await self._load(revision)
        if current is not None:
            await self._guard(current, objects, revision)
        built = await self._build(revision, objects)
        before = [one for one in self._made if one[0] != revision][-1:]  # two are in use at most
        self._made = (*before, (revision, inputs, built))
        return built

    def _known(self, revision: int, inputs: Inputs) -> Published | None:
        return next((built for *made, built in self._made if made == [revision, inputs]), None)

    def _follow_course(self, course: Course, compiled: Published, target: Published | None) -> None:
        """To the streams: `compiled`, and to the nodes that the course says `target`, once it is there."""
        row, before = course.rollout, self.state
        same = compiled is self._compiled and target is self._target
        if compiled is not self._compiled:
            snapshot = compiled.snapshot
            log.info("published", revision=snapshot.revision, problems=len(compiled.problems))
        self._compiled, self._target = compiled, target
        failure = before.failure if row is not None and target is None else None
        followed = replace(before, rollout=row, freeze=course.freeze, rollout_version=course.version, failure=failure)
        self._published_at = asyncio.get_running_loop().time()
        self._builder.key_sets.want((target or compiled).gateway)
        if same and _admitted(row) == _admitted(before.rollout):
            self._set(followed)
            return
        self.state = followed
        self._give()

    def _give(self) -> None:
        """With the endpoints of now."""
        assert self._compiled is not None  # noqa: S101 - there is nothing to give before
        published = self._assigned(self._compiled)
        target = self._assigned(self._target) if self._target is not None else None
        trial = Trial(target.snapshot, _admitted(self.state.rollout)) if target is not None else None
        self._hub.publish(published.snapshot, trial)
        self._set(replace(self.state, published=published, target=target))

    def _assigned(self, compiled: Published) -> Published:
        assigned = self._builder.assign(compiled.gateway, compiled.snapshot, from_disk=compiled.from_disk)
        return replace(compiled, snapshot=assigned.snapshot, told=assigned.problems)

    async def _load(self, revision: int) -> tuple[Object, ...]:
        async def work(connection: AsyncConnection) -> tuple[ObjectRow, ...]:
            return await revisions.load(connection, revision)

        try:
            rows = await engines.run(self._engine, work)
        except revisions.NotFound as error:
            raise Refused(str(error)) from error
        if not rows:
            raise Refused("the store returned no objects; an empty gateway is never published")
        return tuple(map(from_row, rows))

    async def _guard(self, current: Published, objects: tuple[Object, ...], revision: int) -> None:
        """Nobody takes much away by accident (R17): an apply asks, and this holds what came past it."""
        shrunk = shrinks(current.objects, objects)
        if not shrunk:
            return
        since = current.snapshot.revision
        if not await engines.run(self._engine, lambda c: revisions.may_shrink(c, after=since, until=revision)):
            raise Refused(f"it takes away {' and '.join(map(str, shrunk))}; gwctl apply --allow-shrink lets it go")

    async def _build(self, revision: int, objects: tuple[Object, ...]) -> Published:
        try:
            gateway, problems = await asyncio.to_thread(read.check_objects, objects)
            if gateway is None:
                raise Refused("the stored document is not valid for this version of Tollhouse", problems)
            candidate = await self._builder.build(gateway, revision)
        except (Refused, OSError):
            raise
        except Exception as error:  # a fault of ours in one revision must not take the streams down
            # as text, without the frames' variables: they hold the secrets
            log.error("compile_crashed", revision=revision, trace="".join(traceback.format_exception(error)))
            raise Refused(f"the revision does not compile ({type(error).__name__}, a fault of Tollhouse)") from error
        where = Where.of(objects)
        if not candidate.accepted:
            raise Refused("Envoy refuses the compiled revision", tuple(map(where.placed, candidate.refused)))
        placed = tuple(map(where.placed, candidate.problems))
        return Published(candidate.snapshot, gateway, objects, placed, datetime.now(UTC), candidate.dated)

    def _fail(self, failure: Failure) -> None:
        self._retry_at = asyncio.get_running_loop().time() + RETRY
        self._set(replace(self.state, failure=failure))
        log.error(
            "publish_failed",
            revision=failure.revision,
            reason=failure.reason,
            problems=[problem.message for problem in failure.problems],
        )

    def _set(self, state: State) -> None:
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()


def _admitted(row: RolloutRow | None) -> frozenset[str]:
    return row.admitted if row is not None else frozenset()
