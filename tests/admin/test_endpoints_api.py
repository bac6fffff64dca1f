"""Registration of endpoints: from the control API to the streams, without a revision and without a compilation."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from sqlalchemy import text

from db import endpoints
from db import engine as engines
from db.endpoints import Registration
from tests.admin.conftest import SETTINGS, Api, control_plane
from tests.support.postgres import Databases
from xds_server.compiler import Settings
from xds_server.resources import ENDPOINTS, Snapshot

EDS = """\
  ledger: {type: eds, service: ledger}
  echo: {type: static"""


@pytest.fixture
def eds(document: str) -> str:
    return document.replace("  echo: {type: static", EDS)


def path(instance: str = "a", service: str = "ledger") -> str:
    return f"/v1/services/{service}/endpoints/{instance}"


async def put(api: Api, instance: str = "a", **body: Any) -> dict[str, Any]:
    answer = await api.client.put(path(instance), json={"address": "10.0.0.1", "port": 8080, **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def sent(snapshot: Snapshot | None) -> list[str]:
    assert snapshot is not None
    found = ClusterLoadAssignment.FromString(snapshot.types[ENDPOINTS].resources["ledger"].data)
    addresses = (one.endpoint.address.socket_address for group in found.endpoints for one in group.lb_endpoints)
    return sorted(f"{one.address}:{one.port_value}" for one in addresses)


async def until_sent(api: Api, *addresses: str) -> None:
    began = time.monotonic()
    while sent(api.hub.snapshot) != sorted(addresses):
        assert time.monotonic() - began < 15, sent(api.hub.snapshot)
        await asyncio.sleep(0.005)


async def test_life_of_an_endpoint(api: Api, eds: str) -> None:
    applied = await api.applied(eds)
    assert [problem["code"] for problem in applied["problems"]].count("GW607") == 1
    await api.published(1)
    first = api.hub.snapshot
    assert first is not None
    compiled = api.service.builder.last_compile_seconds
    made = await put(api, weight=2, zone="eu-1a", labels={"version": "1.2"})
    assert made["changed"]
    assert (made["owner"], made["ttl"], made["state"]) == ("bootstrap", 30.0, "healthy")
    await until_sent(api, "10.0.0.1:8080")
    second = api.hub.snapshot
    assert second is not None
    assert second.revision == 1
    assert all(second.types[kind] is first.types[kind] for kind in first.types if kind != ENDPOINTS)
    assert api.service.builder.last_compile_seconds == compiled, "nothing was compiled"
    await put(api, "b", address="10.0.0.2")
    await until_sent(api, "10.0.0.1:8080", "10.0.0.2:8080")
    drained = (await api.client.post(f"{path()}/drain", json={"for": "1s"})).json()
    assert drained["state"] == "draining"
    assert (await put(api))["state"] == "draining", "its heartbeats do not bring it back"
    await until_sent(api, "10.0.0.2:8080")
    assert (await api.client.delete(path("b"))).json()["changed"]
    assert not (await api.client.delete(path("b"))).json()["changed"]
    await until_sent(api)
    actions = [entry["action"] for entry in (await api.client.get("/v1/audit")).json()["entries"]]
    assert [one for one in actions if one.startswith("endpoint.")] == [
        "endpoint.deregister",
        "endpoint.drain",
        "endpoint.register",
        "endpoint.register",
    ]


async def test_a_thousand_heartbeats_push_nothing_and_write_no_audit(api: Api, eds: str) -> None:
    await api.applied(eds)
    await api.published(1)
    for number in range(10):
        await put(api, f"i{number}", address=f"10.0.0.{number}")
    await until_sent(api, *(f"10.0.0.{number}:8080" for number in range(10)))
    before, entries = api.hub.snapshot, (await api.client.get("/v1/audit")).json()
    version = await engines.run(api.engine, endpoints.version)
    for _ in range(10):
        beats = (put(api, f"i{number}", address=f"10.0.0.{number}") for number in range(10))
        assert not any(beat["changed"] for beat in await asyncio.gather(*beats))
    said = [Registration("ledger", f"i{number}", f"10.0.0.{number}", 8080, "bootstrap") for number in range(10)]
    for _ in range(90):  # the rest without HTTP, which is what takes the time
        async with api.engine.begin() as connection:
            assert all([await endpoints.heartbeat(connection, one) is not None for one in said])
    await asyncio.sleep(0.7)  # longer than a poll
    assert await engines.run(api.engine, endpoints.version) == version
    assert api.hub.snapshot is before
    assert (await api.client.get("/v1/audit")).json() == entries


async def test_what_is_shown(api: Api, eds: str) -> None:
    await api.applied(eds)
    await api.published(1)
    listed = (await api.client.get("/v1/services")).json()["services"]
    assert [one["service"] for one in listed] == ["ledger"]
    await put(api, state="unhealthy", ttl="none")
    await until_sent(api, "10.0.0.1:8080")
    shown = (await api.client.get("/v1/services/ledger")).json()
    assert (shown["healthy"], shown["unhealthy"], shown["upstreams"]) == (0, 1, ["ledger"])
    assert shown["endpoints"] == [
        {"address": "10.0.0.1", "port": 8080, "weight": 1, "zone": None, "priority": 0, "state": "unhealthy"}
        | {"source": "registry"}
    ]
    (instance,) = shown["instances"]
    assert (instance["instance"], instance["expires_at"]) == ("a", None)
    assert (await api.client.get("/v1/services/nobody")).status_code == 404
    assert (await api.client.post(f"{path('nobody')}/drain", json={})).status_code == 404


REFUSED: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"address": "ledger.internal"}, "/address", "not an IP address"),
    ({"address": "169.254.169.254"}, "/address", "link-local"),
    ({"address": "::ffff:100.100.100.200"}, "/address", "metadata"),
    ({"address": "127.0.0.1", "port": 9191}, "/address", "part of the control plane"),
    ({"port": 0}, "/port", "greater than"),
    ({"weight": 0}, "/weight", "greater than"),
    ({"ttl": "1s"}, "/ttl", "from 5s to 3600s"),
    ({"ttl": "2h"}, "/ttl", "from 5s to 3600s"),
    ({"state": "draining"}, "/state", "healthy"),
    ({"zone": "a\nb"}, "/zone", "pattern"),
    ({"wieght": 2}, "/wieght", "not permitted"),
)


async def test_what_is_refused(databases: Databases, tmp_path: Path) -> None:
    settings = Settings(decisions=SETTINGS.decisions, forbidden=SETTINGS.decisions)
    async with control_plane(databases.fresh(), tmp_path / "secrets", settings=settings) as api:
        for body, pointer, word in REFUSED:
            answer = await api.client.put(path(), json={"address": "10.0.0.1", "port": 80, **body})
            assert answer.status_code == 422
            assert answer.headers["content-type"] == "application/problem+json"
            (error,) = answer.json()["errors"]
            assert error["pointer"] == pointer
            assert word in error["message"]
        assert await engines.run(api.engine, endpoints.every) == ()


async def test_a_viewer_may_only_look(api: Api) -> None:
    token, _ = await api.make_token("v", "viewer")
    headers = {"authorization": f"Bearer {token}"}
    body = {"address": "10.0.0.1", "port": 80}
    assert (await api.client.put(path(), json=body, headers=headers)).status_code == 403
    assert (await api.client.get("/v1/services", headers=headers)).status_code == 200
    assert (await api.client.get("/v1/services", headers={"authorization": ""})).status_code == 401


async def test_replicas_see_the_same_and_a_lost_database_empties_nothing(
    databases: Databases, tmp_path: Path, eds: str
) -> None:
    url = databases.fresh()
    async with control_plane(url, tmp_path / "one") as one, control_plane(url, tmp_path / "two", first=False) as two:
        await one.applied(eds)
        await one.published(1)
        await two.published(1)
        await put(one)
        await until_sent(one, "10.0.0.1:8080")
        await until_sent(two, "10.0.0.1:8080")
        async with one.engine.begin() as connection:
            mine = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            await connection.execute(text(mine + "AND datname = current_database()"))
        for _ in range(20):
            await asyncio.sleep(0.02)
            assert sent(one.hub.snapshot) == sent(two.hub.snapshot) == ["10.0.0.1:8080"]
        await put(one, "b", address="10.0.0.2")
        await until_sent(two, "10.0.0.1:8080", "10.0.0.2:8080")
