"""Remote key sets end to end: issuer, control plane, ADS and a real Envoy that never talks to the issuer."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import yaml

from gateway.model import Gateway, decode
from gwctl import bootstrap
from gwctl.up.process import Process, free_port
from tests.support.issuer import Issuer
from xds_server.ads import server as ads
from xds_server.ads.hub import Hub
from xds_server.compiler import Settings
from xds_server.rollout.candidate import Builder, Candidate
from xds_server.secrets import SecretStore
from xds_server.validate import find_envoy

from .running import OPTIONS, claims, ready

DOCUMENT = """
version: 1
listeners: {http: {port: 8080, access_log: none}}
jwt_providers:
  acme: {issuer: https://id.example.com/, audiences: [orders], jwks: {uri: URI, cache: 5s}}
  other: {issuer: https://other.example.com/, audiences: [orders], jwks: {uri: "http://127.0.0.1:1/none.json"}}
tiers: {free: {unlimited: true}}
modules:
  m:
    tier: free
    listener: http
    authentication: {any_of: [acme]}
    routes:
      a: {match: {path: {exact: /a}}, respond: {status: 200}}
      b: {match: {path: {exact: /b}}, respond: {status: 200}, authentication: {any_of: [other]}}
"""


class Plane:
    """A control plane without its database: builds, publishes, and one Envoy follows."""

    def __init__(self, directory: Path, gateway: Gateway) -> None:
        self.port, self.admin, self.gateway, self.revision = free_port(), free_port(), gateway, 0
        settings = Settings(listener_ports={"http": self.port}, decisions=(("127.0.0.1", 1),))
        self.builder = Builder(settings, SecretStore(directory / "secrets"), None)
        self.hub = Hub()

    async def publish(self) -> Candidate:
        self.revision += 1
        candidate = await self.builder.build(self.gateway, self.revision)
        self.builder.key_sets.want(self.gateway)
        self.hub.publish(candidate.snapshot)
        return candidate


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    with Issuer() as running:
        yield running


def document(issuer: Issuer) -> Gateway:
    """Through two providers, so tokens of one are not told apart by `sub` alone; here only jwt_authn is looked at."""
    return decode(yaml.safe_load(DOCUMENT.replace("URI", issuer.uri)))


async def status(client: httpx.AsyncClient, path: str, token: str) -> int:
    return (await client.get(path, headers={"authorization": f"Bearer {token}"})).status_code


async def test_keys_rotate_and_an_issuer_that_is_down_changes_nothing(tmp_path: Path, issuer: Issuer) -> None:
    (tmp_path / "secrets").mkdir()
    plane = Plane(tmp_path, document(issuer))
    candidate = await plane.publish()
    assert [(p.code, p.path) for p in candidate.problems] == [("GW602", ("jwt_providers", "other", "jwks", "uri"))]
    server = await ads.start(plane.hub, "127.0.0.1:0")
    config = tmp_path / "bootstrap.yaml"
    bootstrap.write(bootstrap.Node("node-1", ("127.0.0.1", plane.admin), ("127.0.0.1", server.port)), config)
    command = [str(find_envoy()), "--config-path", str(config), *OPTIONS]
    envoy = Process("envoy", command, tmp_path / "envoy.log", ready=lambda: ready(plane.admin))
    try:
        await asyncio.to_thread(envoy.start)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{plane.port}", timeout=20) as client:
            await rotated(plane, issuer, client)
    finally:
        envoy.stop()
        await server.stop(0)


async def rotated(plane: Plane, issuer: Issuer, client: httpx.AsyncClient) -> None:
    """A token that passes jwt_authn finds no decision service here: 503. One that does not is a 401."""
    old = issuer.token(claims(), "first")
    await becomes(client, "/a", old, 503)
    assert await status(client, "/b", old) == 500, "a provider without keys closes its own routes"
    issuer.rotate("first", "second")
    new = issuer.token(claims(), "second")
    assert await status(client, "/a", new) == 401, "an unknown kid"
    await due(plane)
    assert await plane.publish()
    await becomes(client, "/a", new, 503)
    issuer.status = 500
    await due(plane)
    await plane.publish()
    assert await status(client, "/a", new) == 503
    issuer.status = 200
    issuer.rotate("second")
    await due(plane)
    await plane.publish()
    await becomes(client, "/a", old, 401)
    assert await status(client, "/a", new) == 503


async def due(plane: Plane) -> None:
    sets = plane.builder.key_sets
    for held in sets._held.values():
        held.due = 0.0
    await sets._refresh(sets._wanted)


async def becomes(client: httpx.AsyncClient, path: str, token: str, wanted: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                found = await status(client, path, token)
            except httpx.TransportError:
                found = 0
            if found == wanted:
                return
            await asyncio.sleep(0.05)


def test_a_restart_while_the_issuer_is_down_still_serves(tmp_path: Path, issuer: Issuer) -> None:
    async def built() -> str:
        plane = Plane(tmp_path, document(issuer))
        await plane.publish()
        return json.dumps([set_.keys for set_ in plane.builder.key_sets.read().values()])

    (tmp_path / "secrets").mkdir()
    before = asyncio.run(built())
    issuer.close()
    assert asyncio.run(built()) == before
    assert "first" in before
