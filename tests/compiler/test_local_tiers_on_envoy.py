"""Limits of tiers that an Envoy counts by itself: whose they are, over all routes, and over a change of routes."""

from pathlib import Path
from typing import Any

import httpx
import jwt
import yaml
from prometheus_client import CollectorRegistry

from gateway.model import decode
from gwctl.up.process import free_port
from tests.ads import real_envoy as real
from tests.compiler.running import KEY, SECRETS, claims
from tests.support.upstream import Upstream
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.compiler import Settings, compile  # noqa: A004
from xds_server.resources import EXTENSION, LISTENER, Snapshot

DOCUMENT = """
version: 1
listeners: {http: {port: 8080, access_log: none}}
upstreams: {a: {type: static, endpoints: [{address: 127.0.0.1, port: 4321}]}}
jwt_providers:
  acme: {issuer: "https://id.example.com/", audiences: [orders], jwks: {hs256: {secret: acme-key}}, tier_claim: plan}
tiers:
  free: {rate_limits: [{limit: 3/hour, mode: local}]}
  gold: {rate_limits: [{limit: 8/hour, cost: 2, mode: local}, {limit: 3/hour, per: [client, route], mode: local}]}
  staff: {unlimited: true}
modules:
  m:
    tier: free
    listener: http
    authentication: {any_of: [acme]}
    routes:
      a: {match: {path: {exact: /a}}, backends: [{upstream: a}]}
      b: {match: {path: {exact: /b}}, backends: [{upstream: a}]}
      here: {match: {path: {exact: /here}}, respond: {status: 200, body: before}}
  open:
    tier: free
    listener: http
    authentication: none
    routes: {o: {match: {path: {exact: /o}}, backends: [{upstream: a}]}}
"""
ADDED = "      c: {match: {path: {exact: /c}}, backends: [{upstream: a}]}\n      here:"


def bearer(**more: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {jwt.encode(claims(**more), KEY, 'HS256')}"}


def snapshot(revision: int, document: str, settings: Settings) -> Snapshot:
    compiled = compile(decode(yaml.safe_load(document)), settings, SECRETS, strict=True)
    assert compiled.problems == ()
    return Snapshot.of(revision, compiled.messages)


async def test_tiers_are_told_apart_and_their_buckets_outlive_a_change_of_routes(tmp_path: Path) -> None:
    settings = Settings(listener_ports={"http": free_port()})
    hub = Hub()
    with Upstream() as upstream:
        document = DOCUMENT.replace("4321", str(upstream.port))
        before = snapshot(1, document, settings)
        after = snapshot(2, document.replace("body: before", "body: after").replace("      here:", ADDED), settings)
        hub.publish(before)
        server = await start(hub, "127.0.0.1:0", registry=CollectorRegistry())
        try:
            async with real.running("delta", server.port, tmp_path) as envoy:
                await envoy.sees("/o", 200)
                port = await envoy.port("http")
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                    await counted(client)
                    hub.publish(after)
                    async with httpx.AsyncClient(base_url=client.base_url, headers=bearer()) as other:
                        while (await other.get("/here")).text != "after":
                            pass
                    alice = bearer()
                    assert [(await client.get("/c", headers=alice)).status_code for _ in range(2)] == [429, 429]
                    assert (await client.get("/c", headers=bearer(sub="new"))).status_code == 200
        finally:
            await server.stop(0)
    assert before.types[EXTENSION].version == after.types[EXTENSION].version
    assert before.types[LISTENER].version == after.types[LISTENER].version


async def counted(client: httpx.AsyncClient) -> None:
    async def asked(paths: str, **who: Any) -> list[int]:
        return [(await client.get(f"/{path}", headers=bearer(**who))).status_code for path in paths]

    assert await asked("aabb") == [200, 200, 200, 429], "one count over all routes"
    assert await asked("abab", sub="bob", plan="nonsense") == [200, 200, 200, 429], "no such tier is the lowest"
    assert await asked("abab", sub="carl", plan=["gold"]) == [200, 200, 200, 429], "nor is what is no text"
    assert await asked("aaba", sub="dora", plan="gold") == [200, 200, 200, 200], "eight, of two each"
    assert await asked("ab", sub="dora", plan="gold") == [429, 429]
    assert await asked("aaaa", sub="erna", plan="gold") == [200, 200, 200, 429], "three for each route"
    assert await asked("ab" * 5, sub="fred", plan="staff") == [200] * 10
    assert [(await client.get("/o")).status_code for _ in range(3)] == [200, 200, 429], "one went before; by address"
    assert {(await client.get("/here", headers=bearer())).status_code for _ in range(3)} == {200}, "not sent on"
