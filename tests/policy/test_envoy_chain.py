"""A real Envoy asking the decision service: what callers and upstreams get to see."""

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from gwctl.up.process import Process, free_port, packaged
from tests.support.tokens import claims, sign
from tests.support.upstream import Upstream

from .facts_of import DOCUMENT
from .rig import Database, decisions, until

SECRET = b"0123456789abcdef0123456789abcdef"
ISSUER = "https://id.example.com/"
TEMPLATE = Path(__file__).with_name("chain.yaml")


@pytest.fixture
async def database(postgres):
    made = Database(postgres.url)
    await made.migrate()
    await made.apply(DOCUMENT)
    yield made
    await made.close()


@pytest.fixture(params=["grpcio", "fast"])
async def service(request, database, valkey):
    running = await decisions(database.url, valkey.url, transport=request.param)
    await asyncio.wait_for(running.ready(), 15)
    yield running
    await running.stop(0)


@pytest.fixture
def upstream():
    with Upstream() as running:
        yield running


@pytest.fixture
async def gateway(service, upstream, tmp_path):
    port = free_port()
    words = {
        "LISTENER_PORT": port,
        "UPSTREAM_PORT": upstream.port,
        "DECISIONS_PORT": service.port,
        "ENCODE_RAW_HEADERS": str(service._config.transport == "fast").lower(),  # both ways, without asking all twice
    }
    text = TEMPLATE.read_text()
    for word, value in words.items():
        text = text.replace(word, str(value))
    config = tmp_path / "envoy.yaml"
    config.write_text(text)
    options = ["--concurrency", "1", "--use-dynamic-base-id", "--disable-hot-restart", "--log-level", "warning"]
    envoy = Process(
        name="Envoy",
        command=[str(packaged("envoy", "_bin/envoy")), "-c", str(config), *options],
        log=tmp_path / "envoy.log",
        ready=lambda: accepts(port),
    )
    await asyncio.to_thread(envoy.spawn)
    try:
        await until(lambda: accepts(port))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        envoy.stop()


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def bearer(**more) -> dict[str, str]:
    return {"authorization": f"Bearer {sign(SECRET, 'HS256', claims(ISSUER, **more), kid='h1')}"}


async def test_keys_tokens_limits_and_outages(gateway, database, service, upstream):
    key = await database.make_key("free")
    with_key = {"x-api-key": key.text}

    let_in = await gateway.get("/orders", headers=with_key | {"x-client-id": "forged"})
    assert let_in.status_code == 200
    seen = upstream.seen[-1]["headers"]
    assert "x-api-key" not in seen
    assert seen["x-client-id"].startswith("c_")
    assert let_in.headers["x-ratelimit-limit"] == "3, 3;w=3600"
    assert let_in.headers["x-ratelimit-remaining"] == "2"

    for _ in range(2):
        assert (await gateway.get("/orders", headers=with_key)).status_code == 200
    limited = await gateway.get("/orders", headers=with_key)
    assert limited.status_code == 429
    assert limited.headers["x-ratelimit-remaining"] == "0"
    assert 0 < int(limited.headers["retry-after"]) <= 4801
    assert limited.headers["x-ratelimit-reset"] == limited.headers["retry-after"]
    assert "Rate limit of 3 per hour exceeded" in limited.json()["detail"]

    token = bearer(sub="ann", plan="gold", scope="a:read")
    with_token = await gateway.get("/orders", headers=token)
    assert with_token.status_code == 200
    assert with_token.headers["x-ratelimit-limit"] == '50, 50;w=60;name="gold-minute"'
    assert (await gateway.get("/orders", headers=bearer(sub="staff", plan="staff", scope="a:read"))).status_code == 200
    assert (await gateway.get("/orders", headers=bearer(sub="ann", scope="a:readonly"))).status_code == 403

    for headers in ({}, {"x-api-key": "nonsense"}, bearer(sub=""), {"authorization": "Bearer x.y.z"}):
        refused = await gateway.get("/orders", headers=headers)
        assert refused.status_code == 401, headers
        assert "www-authenticate" in refused.headers
        assert refused.headers["content-type"] == "application/problem+json"
    twice = await gateway.get("/orders", headers=[("x-api-key", key.text), ("x-api-key", key.text)])
    assert twice.status_code == 401
    assert (await gateway.get("/open", headers=with_key | token)).status_code == 403

    await service.stop(0)
    seen_before = len(upstream.seen)
    assert (await gateway.get("/orders", headers=token)).status_code == 503
    assert len(upstream.seen) == seen_before


async def test_counters_that_are_gone_are_a_503_where_the_gateway_says_deny(gateway, valkey, service):
    token = bearer(sub="ann", plan="gold", scope="a:read")
    assert (await gateway.get("/orders", headers=token)).status_code == 200
    valkey.kill9()
    try:
        assert {(await gateway.get("/orders", headers=token)).status_code for _ in range(20)} == {503}
    finally:
        valkey.start()
    await until(lambda: service._store.available)
    assert (await gateway.get("/orders", headers=token)).status_code == 200


@pytest.mark.parametrize("service", ["fast"], indirect=True)
async def test_connections_that_grow_old_under_load_lose_no_request(gateway, service):
    """Envoy's calls that cross our GOAWAY are answered, and it connects again for those that come after."""
    [serving] = service._servers._servers
    serving.server.limits = replace(serving.server.limits, age=0.3, tick=0.01, quiet=0.02)
    token = bearer(sub="ann", plan="staff", scope="a:read")
    seen: set[object] = set()

    async def ask() -> list[int]:
        codes = []
        for _ in range(60):
            codes.append((await gateway.get("/orders", headers=token)).status_code)
            seen.update(serving.server.connections)
        return codes

    asked = await asyncio.gather(*(ask() for _ in range(8)))
    assert {code for codes in asked for code in codes} == {200}
    assert len(seen) > 1, "no connection grew old"
