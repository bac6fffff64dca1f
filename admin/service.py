"""The service layer: what the control API can do, without HTTP. The REST routes and the web UI are faces of it."""

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from admin.access import Access
from admin.apply import Applier
from admin.endpoints import Endpoints
from admin.explaining import Explainer
from admin.keys import Keys
from admin.minting import Minter
from admin.plan import Planner
from admin.problems import not_found
from admin.rollouts import Rollouts
from admin.status import Status
from admin.undo import Undoer
from db import audit, revisions
from db import engine as engines
from db.rows import AuditRow, ObjectRow, RevisionRow
from policy.authz.peppers import Peppers
from xds_server.ads.hub import Hub
from xds_server.rollout.candidate import Builder
from xds_server.rollout.culprits import Culprits
from xds_server.rollout.publisher import Publisher

VERIFY_SECONDS = 60.0


@dataclass
class Service:
    """Everything by construction: the composition root makes the parts, this joins them."""

    engine: AsyncEngine
    publisher: Publisher
    hub: Hub
    builder: Builder
    peppers: Peppers = field(repr=False)

    def __post_init__(self) -> None:
        self.applier = Applier(self.engine, self.builder)
        self.undoer = Undoer(self.engine, self.applier)
        self.planner = Planner(self.engine, self.applier, self.builder, self.publisher, self.hub)
        self.rollouts = Rollouts(self.engine, self.publisher)
        self.endpoints = Endpoints(self.engine, self.publisher, self.builder.services, self.builder.settings)
        self.access = Access(self.engine)
        self.keys = Keys(self.engine, self.peppers)
        self.explainer = Explainer(self.publisher, self.keys)
        self.minter = Minter(self.engine, self.publisher, self.builder.secrets)
        self.status = Status(self.publisher, self.hub, Culprits(self.publisher, self.hub, self.builder.envoy))

    @property
    def ready(self) -> bool:
        return self.publisher.state.ready

    async def history(self, limit: int, before: int | None) -> tuple[RevisionRow, ...]:
        async def work(connection: AsyncConnection) -> tuple[RevisionRow, ...]:
            return await revisions.history(connection, limit=limit, before=before)

        return await engines.run(self.engine, work)

    async def revision(self, number: int) -> tuple[RevisionRow, tuple[ObjectRow, ...]]:
        """Raises ApiError 404."""

        async def work(connection: AsyncConnection) -> tuple[RevisionRow, tuple[ObjectRow, ...]]:
            return await revisions.get(connection, number), await revisions.load(connection, number)

        try:
            return await engines.run(self.engine, work)
        except revisions.NotFound as error:
            raise not_found(f"revision {number}") from error

    async def audit(self, limit: int, before: int | None) -> tuple[AuditRow, ...]:
        async def work(connection: AsyncConnection) -> tuple[AuditRow, ...]:
            return await audit.page(connection, limit=limit, before=before)

        return await engines.run(self.engine, work)

    async def verify_audit(self) -> int:
        """The number of rows. Raises db.audit.BrokenChain."""
        return await engines.run(self.engine, audit.verify, deadline=VERIFY_SECONDS)


def own_version() -> str:
    try:
        return version("tollhouse")
    except PackageNotFoundError:
        return "0.0.0"
