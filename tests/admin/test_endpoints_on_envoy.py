"""Registered endpoints on a real Envoy: both get traffic, draining costs no request, and who falls silent is gone."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from db import endpoints
from db import engine as engines
from db.endpoints import Registration
from tests.admin.conftest import Api, control_plane
from tests.ads import real_envoy as real
from tests.support.postgres import Databases
from tests.support.upstream import Upstream
from xds_server.ads.server import start
from xds_server.compiler import Settings

DOCUMENT = """\
version: 1
listeners: {http: {port: 8080, access_log: none}}
upstreams: {ledger: {type: eds, service: ledger}}
tiers: {free: {unlimited: true}}
modules:
  m:
    tier: free
    listener: http
    authentication: none
    routes: {all: {match: {path: {prefix: /}}, backends: [{upstream: ledger}]}}
"""


@dataclass
class Running:
    api: Api
    envoy: real.Envoy

    async def register(self, instance: str, port: int, **more: object) -> None:
        body = {"address": "127.0.0.1", "port": port, **more}
        answer = await self.api.client.put(f"/v1/services/ledger/endpoints/{instance}", json=body)
        assert answer.status_code == 200, answer.text

    async def hosts(self) -> str:
        return (await self.envoy.http.get(f"{self.envoy.admin}/clusters")).text

    async def has(self, line: str, *, there: bool = True) -> float:
        """Until Envoy's list of hosts has such a line, or has not; how long it took."""
        began = time.monotonic()
        while (f"ledger::{line}" in await self.hosts()) != there:
            assert time.monotonic() - began < 15, await self.hosts()
            await asyncio.sleep(0.002)
        return time.monotonic() - began


@asynccontextmanager
async def gateway(url: str, directory: Path, kind: real.Kind) -> AsyncIterator[Running]:
    settings = Settings(listener_ports={"http": real.free_port()})
    async with control_plane(url, directory / "secrets", settings=settings) as api:
        server = await start(api.hub, "127.0.0.1:0", registry=CollectorRegistry(), insecure_plaintext=False)
        try:
            await api.applied(DOCUMENT)
            await api.published(1)
            async with real.running(kind, server.port, directory) as envoy:
                await envoy.sees("/", 503)
                yield Running(api, envoy)
        finally:
            await server.stop(0)


class Load:
    """Requests without a pause. `answers`: how many by status and upstream."""

    def __init__(self, url: str) -> None:
        self.answers: Counter[tuple[int, str]] = Counter()
        self._url = url

    async def run(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            while True:
                answer = await client.get(self._url)
                self.answers[answer.status_code, answer.headers.get("x-port", "")] += 1


@asynccontextmanager
async def loaded(url: str) -> AsyncIterator[Load]:
    load = Load(url)
    tasks = [asyncio.create_task(load.run()) for _ in range(4)]
    try:
        yield load
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [one for one in ended if not isinstance(one, asyncio.CancelledError)]


@pytest.mark.parametrize("kind", ["sotw", "delta"])
async def test_registered_drained_and_forgotten(databases: Databases, tmp_path: Path, kind: real.Kind) -> None:
    async with gateway(databases.fresh(), tmp_path, kind) as running, two_upstreams() as (first, second):
        await running.register("a", first.port, zone="eu-1a")
        await running.has(f"127.0.0.1:{first.port}::zone::eu-1a")
        await running.register("b", second.port, zone="eu-1b")
        await running.has(f"127.0.0.1:{second.port}::zone::eu-1b")
        async with loaded(f"http://127.0.0.1:{await running.envoy.port('http')}/") as load:
            await asyncio.sleep(0.5)
            assert set(load.answers) == {(200, str(first.port)), (200, str(second.port))}
            answer = await running.api.client.post("/v1/services/ledger/endpoints/a/drain", json={"for": "1s"})
            assert answer.json()["state"] == "draining"
            await running.has(f"127.0.0.1:{first.port}::health_flags::/eds_status_draining")
            await asyncio.sleep(0.1)
            before = load.answers[200, str(first.port)]
            await running.has(f"127.0.0.1:{first.port}::", there=False)
            assert load.answers[200, str(first.port)] <= before, "it got no new requests"
            assert {status for status, _ in load.answers} == {200}
        silent = Registration("ledger", "c", "127.0.0.1", first.port, "ci", ttl=1.0)
        await engines.run(running.api.engine, lambda connection: endpoints.register(connection, silent))
        await running.has(f"127.0.0.1:{first.port}::")
        await running.has(f"127.0.0.1:{first.port}::", there=False)
        answers = {(await running.envoy.get("/")).headers["x-port"] for _ in range(10)}
        assert answers == {str(second.port)}


async def test_a_registration_is_used_at_once(databases: Databases, tmp_path: Path) -> None:
    async with gateway(databases.fresh(), tmp_path, "delta") as running:
        took = []
        for number in range(40):
            began = time.monotonic()
            await running.register(f"i{number}", 20_000 + number)
            await running.has(f"127.0.0.1:{20_000 + number}::")
            took.append(time.monotonic() - began)
        took.sort()
        assert took[20] < 1.0, "the poll alone would take longer, half of the time"


@asynccontextmanager
async def two_upstreams() -> AsyncIterator[tuple[Upstream, Upstream]]:
    with Upstream() as first, Upstream() as second:
        yield first, second
