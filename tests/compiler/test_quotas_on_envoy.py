"""Quotas on real Envoys, with the service that shares them out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import yaml

from gateway.model import decode
from gwctl.up.process import free_port
from policy.quota import message, shares
from tests.compiler.running import KEY, RunningGateway, claims
from tests.policy.rig import until
from tests.policy.sharing import Sharing
from tests.support.upstream import Upstream
from xds_server.compiler import Settings, compile  # noqa: A004
from xds_server.resources import EXTENSION, LISTENER, Snapshot

DOCUMENT = """
version: 1
listeners: {http: {port: 8080, access_log: none}}
upstreams: {a: {type: static, endpoints: [{address: 127.0.0.1, port: 4321}]}}
rate_limit_defaults: {on_error: ON_ERROR}
jwt_providers:
  acme: {issuer: "https://id.example.com/", audiences: [orders], jwks: {hs256: {secret: acme-key}}, tier_claim: plan}
api_keys: {partner: {}}
tiers:
  free: {rate_limits: [{limit: 300/second, mode: quota}]}
  gold: {rate_limits: [{limit: 900/second, per: [client, route], mode: quota}]}
  staff: {unlimited: true}
modules:
  open:
    tier: staff
    listener: http
    authentication: none
    routes:
      shared:
        match: {path: {exact: /shared}}
        respond: {status: 200}
        rate_limits: [{limit: 30/minute, burst: 6, per: route, mode: quota}]
      each:
        match: {path: {exact: /each}}
        respond: {status: 200}
        rate_limits: [{limit: 60/minute, burst: 8, cost: 2, per: ip, mode: quota}]
      quick: {match: {path: {exact: /quick}}, respond: {status: 200}, rate_limits: [{limit: 100/second, mode: quota}]}
  tokens:
    tier: free
    listener: http
    authentication: {any_of: [acme]}
    routes:
      t:
        match: {path: {exact: /t}}
        backends: [{upstream: a}]
        rate_limits: [{limit: 100/second, per: "claim:org", mode: quota}]
  keys:
    tier: free
    listener: http
    authentication: {any_of: [partner, acme]}
    routes:
      k:
        match: {path: {exact: /k}}
        backends: [{upstream: a}]
        rate_limits: [{limit: 100/second, per: "claim:org", mode: quota}]
"""


@pytest.fixture
async def sharing() -> AsyncIterator[Sharing]:
    async with Sharing(decode(yaml.safe_load(document()))) as running:
        yield running


def document(on_error: str = "deny") -> str:
    return DOCUMENT.replace("ON_ERROR", on_error)


@asynccontextmanager
async def envoy(
    directory: Path, port: int, on_error: str = "deny", upstream: int = 1, others: tuple[int, ...] = ()
) -> AsyncIterator[httpx.AsyncClient]:
    def start() -> RunningGateway:
        directory.mkdir(exist_ok=True)
        return RunningGateway(
            directory,
            document(on_error),
            {"4321": upstream},
            decisions=tuple(("127.0.0.1", one) for one in (port, *others)),
        )

    running = await asyncio.to_thread(start)
    try:
        async with httpx.AsyncClient(base_url=running.url, timeout=20) as client:
            yield client
    finally:
        running.close()


async def statuses(client: httpx.AsyncClient, path: str, count: int) -> list[int]:
    return [(await client.get(path)).status_code for _ in range(count)]


async def assigned(client: httpx.AsyncClient, path: str, sharing: Sharing) -> None:
    """The first request is refused where nothing is assigned yet; then there is an assignment."""
    assert (await client.get(path)).status_code == 429
    await until(lambda: sharing.buckets)
    await asyncio.sleep(0.2)


async def test_a_share_is_spent_and_then_refused_and_another_envoy_gets_his_at_once(
    sharing: Sharing, tmp_path: Path
) -> None:
    async with envoy(tmp_path / "1", sharing.port) as first, envoy(tmp_path / "2", sharing.port) as second:
        await assigned(first, "/shared", sharing)
        spent = await statuses(first, "/shared", 12)
        assert 6 <= spent.count(200) <= 8, "a burst of 6, and what came back meanwhile"
        refused = await first.get("/shared")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "2"
        assert refused.json()["title"] == "Too Many Requests"
        assert (await second.get("/shared")).status_code == 429
        await asyncio.sleep(0.3)
        assert (await statuses(second, "/shared", 8)).count(200) in (3, 4), "half of it is his at once"
        assert (await first.get("/each")).status_code == 429
        await until(lambda: len(sharing.buckets) == 2)
        await asyncio.sleep(0.2)
        assert (await statuses(first, "/each", 8)).count(200) in (4, 5), "a request costs two of eight"
        assert {"route_limit": "open/each/0", "remote_address": "=127.0.0.1"} in sharing.buckets


async def test_what_buckets_are_counted_by(sharing: Sharing, tmp_path: Path) -> None:
    def token(**more: Any) -> dict[str, str]:
        return {"authorization": f"Bearer {jwt.encode(claims(**more), KEY, 'HS256')}"}

    with Upstream() as upstream:
        async with envoy(tmp_path / "e", sharing.port, "allow", upstream.port) as client:
            for headers in (token(plan="gold", org="x%y:z"), token(plan="nonsense", sub="bob"), token(plan=7, org=7)):
                assert (await client.get("/t", headers=headers)).status_code == 200
            sharing.identity = {"tier": "gold", "client": "c_1"}
            assert (await client.get("/k", headers=token(org="o"))).status_code == 200
            await client.get("/t", headers=token(plan="staff", org="o"))
            expected = [
                {"tier": "gold", "client": "=alice", "route": "=tokens/t"},
                {"tier": "free", "client": "=bob"},
                {"tier": "free", "client": "=alice"},
                {"tier": "gold", "client": "=c_1", "route": "=keys/k"},
                {"route_limit": "tokens/t/0", "claim:org": "=x%y:z"},
                {"route_limit": "tokens/t/0", "claim:org": "=-"},
                {"route_limit": "keys/k/0", "claim:org": "=o"},
                {"route_limit": "tokens/t/0", "claim:org": "=o"},
            ]
            await until(lambda: len(sharing.buckets) >= len(expected))
            assert sorted(map(str, map(sorted_, sharing.buckets))) == sorted(map(str, map(sorted_, expected)))


def sorted_(bucket: dict[str, str]) -> list[tuple[str, str]]:
    return sorted(bucket.items())


async def test_another_service_takes_over_and_one_that_stays_away_ends_what_it_gave(
    sharing: Sharing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = Sharing(decode(yaml.safe_load(document())), serving=False)
    await second.start()
    async with envoy(tmp_path / "e", sharing.port, others=(second.port,)) as client:
        await assigned(client, "/shared", sharing)
        await sharing.stop()
        assert (await client.get("/shared")).status_code == 200, "what was given holds without the service"
        monkeypatch.setattr(message, "TTL", 1)
        await second.serve(True)
        await until(lambda: second.buckets)
        await asyncio.sleep(0.2)
        assert (await client.get("/shared")).status_code == 200
        await second.stop()
        await asyncio.sleep(1.5)
        assert await statuses(client, "/shared", 3) == [429, 429, 429], "the assignment has ended"


async def test_where_nobody_shares_out_the_gateway_says_what_happens(tmp_path: Path) -> None:
    nobody = free_port()
    async with envoy(tmp_path / "a", nobody, "allow") as client:
        assert set(await statuses(client, "/shared", 20)) == {200}
    async with envoy(tmp_path / "d", nobody, "deny") as client:
        assert set(await statuses(client, "/shared", 5)) == {429}


async def test_idle_buckets_are_forgotten_on_both_sides(
    sharing: Sharing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "REPORT_SECONDS", 1)
    async with envoy(tmp_path / "e", sharing.port, "allow") as client:
        assert (await client.get("/quick")).status_code == 200
        await until(lambda: sharing.buckets)
        await until(lambda: not sharing.buckets, 20)
        await asyncio.sleep(0.2)
        assert (await client.get("/quick")).status_code == 200
        await until(lambda: sharing.buckets)  # reported at once, since Envoy does not know it any more


def test_no_limit_of_any_mode_touches_a_listener() -> None:
    def snapshot(text: str) -> Snapshot:
        compiled = compile(decode(yaml.safe_load(text)), Settings(), {}, strict=False)
        return Snapshot.of(1, compiled.messages)

    with_quotas = snapshot(document())
    for mode in ("local", "exact"):
        changed = snapshot(document().replace("mode: quota", f"mode: {mode}"))
        assert changed.types[LISTENER].version == with_quotas.types[LISTENER].version
        assert changed.types[EXTENSION].version != with_quotas.types[EXTENSION].version
    more = document().replace(
        "      t: {match", "      u: {match: {path: {exact: /u}}, backends: [{upstream: a}]}\n      t: {match"
    )
    assert snapshot(more).types[EXTENSION].version == with_quotas.types[EXTENSION].version
