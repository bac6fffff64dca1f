import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from admin import app, tokens
from admin.service import Service
from db import endpoints
from db import engine as engines
from db import tokens as stored
from db.watch import HeadWatch
from tests.support import postgres
from tests.support.postgres import Databases
from xds_server.ads.hub import Hub
from xds_server.compiler import Settings
from xds_server.endpoints.registered import Registered
from xds_server.endpoints.services import ServiceRegistry
from xds_server.rollout.candidate import Builder
from xds_server.rollout.census import Census
from xds_server.rollout.conductor import Conductor
from xds_server.rollout.publisher import Publisher
from xds_server.secrets import SecretStore

SETTINGS = Settings(decisions=(("127.0.0.1", 9191),))

DOCUMENT = """\
version: 1
owner: team
listeners:
  http: {port: 8080}
upstreams:
  echo: {type: static, endpoints: [{address: 127.0.0.1, port: 9000}]}
jwt_providers:
  hs:
    issuer: https://hs.example
    audiences: [lab]
    jwks: {hs256: {secret: lab-hs}}
    tier_claim: plan
    max_lifetime: 2h
api_keys:
  partner: {}
tiers:
  zinc: {rate_limits: [{limit: 100/hour}]}
  gold: {rate_limits: [{limit: 1000/hour}]}
modules:
  orders:
    tier: zinc
    listener: http
    authentication: {any_of: [hs, partner]}
    routes:
      list: {match: {path: {prefix: /orders}}, backends: [{upstream: echo}]}
"""


@dataclass
class Api:
    """A control plane in this process, and a client that holds an admin token."""

    service: Service
    hub: Hub
    publisher: Publisher
    engine: AsyncEngine
    secrets: Path
    token: str
    client: httpx.AsyncClient
    pepper: bytes = field(repr=False)

    async def apply(self, *texts: str, **options: Any) -> httpx.Response:
        files = [{"name": f"f{n}.yaml" if n else "routes.yaml", "text": text} for n, text in enumerate(texts)]
        return await self.client.post("/v1/apply", json={"files": files, **options})

    async def applied(self, *texts: str, **options: Any) -> dict[str, Any]:
        answer = await self.apply(*texts, **options)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def published(self, revision: int) -> None:
        """Until the publisher is there."""
        async with asyncio.timeout(15):
            while (state := self.publisher.state).published is None or state.published.snapshot.revision < revision:
                await self.publisher.changed()

    async def make_token(self, name: str, role: str) -> tuple[str, str]:
        """The text and id of a further token."""
        text = tokens.mint()
        row = await engines.run(self.engine, lambda c: stored.create(c, name=name, role=role, token=text))
        return text, row.id


def _fill(directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    (directory / "lab-hs").write_bytes(secrets.token_bytes(32))


@asynccontextmanager
async def control_plane(
    url: str,
    directory: Path,
    envoy: Path | None = None,
    settings: Settings = SETTINGS,
    *,
    first: bool = True,
    name: str = "one",
) -> AsyncIterator[Api]:
    _fill(directory)
    engine = engines.connect(url)
    hub, pepper = Hub(), secrets.token_bytes(32)
    registered = Registered(engine, endpoints.watch(url, poll=0.5, patience=2.0))
    builder = Builder(settings, SecretStore(directory), envoy, ServiceRegistry([registered]))
    publisher = Publisher(engine, HeadWatch(url, poll=0.5, patience=2.0), builder, hub)
    service = Service(engine, publisher, hub, builder, {1: pepper})
    token = await tokens.ensure(engine)
    assert (token is not None) is first, "the first start, and only that, makes a token"
    application = app.create(service, tokens.Tokens(engine), CollectorRegistry())
    census = Census(engine, hub, name)
    conductor = Conductor(engine, publisher, census)
    following = [asyncio.create_task(part.run()) for part in (publisher, census, conductor)]
    transport = httpx.ASGITransport(application)
    headers = {"authorization": f"Bearer {token}"}
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers, timeout=60) as client:
            yield Api(service, hub, publisher, engine, directory, token or "", client, pepper)
    finally:
        for task in following:
            task.cancel()
        ended = await asyncio.gather(*following, return_exceptions=True)
        failed = [one for one in ended if isinstance(one, Exception)]
        await engines.close(engine)
    assert not failed, failed


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    with postgres.server() as server:
        yield Databases(server)


@pytest.fixture
async def api(databases: Databases, tmp_path: Path) -> AsyncIterator[Api]:
    async with control_plane(databases.fresh(), tmp_path / "secrets") as made:
        yield made


@pytest.fixture
def document() -> str:
    return DOCUMENT
