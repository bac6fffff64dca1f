"""Revisions that only an Envoy can tell are bad, under load: none gets past the canary, and no request fails.

Three real Envoys, one of them the canary, and 50 simulated nodes. The gate (`envoy --mode validate`) is off: what it
cannot see, such as a port that is taken on the machine, must not hurt either.
"""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.admin.conftest import Api, control_plane
from tests.ads import real_envoy as real
from tests.rollout.fleet import Sim, fleet
from tests.support import postgres
from tests.support.loaded import loaded
from tests.support.postgres import Databases
from tests.support.results import record, size
from xds_server.ads import server as ads
from xds_server.compiler import Settings
from xds_server.rollout import waves

GOOD = """\
version: 1
owner: team
listeners:
  http: {{port: 8080, access_log: none{http}}}
{listeners}rollout:
  waves:
    - {{name: canary, nodes: {{labels: {{canary: "true"}}}}, soak: 0s}}
    - {{name: all}}
upstreams:
  good: {{type: static, endpoints: [{{address: 127.0.0.1, port: {upstream}}}]}}
{upstreams}tiers: {{zinc: {{unlimited: true}}}}
modules:
  orders:
    tier: zinc
    listener: http
    authentication: none
    routes:
      good: {{match: {{path: {{prefix: /}}}}, backends: [{{upstream: good}}]}}
{routes}"""

REVISIONS = size("BAD_REVISIONS", 8)


def document(upstream: int, **parts: str) -> str:
    """`parts`: lines that go to `listeners`, `upstreams` and `routes`, and words for the listener `http`."""
    return GOOD.format(upstream=upstream, **({"http": "", "listeners": "", "upstreams": "", "routes": ""} | parts))


def bad(number: int, taken: int, upstream: int) -> str:
    """A different one for each number; all have a cluster of their own, by which it is seen who was offered them."""
    name = f"bad-{number}"
    fine = f"  {name}: {{type: static, endpoints: [{{address: 127.0.0.1, port: {upstream}}}]"
    route = f"      {name}: {{match: {{path: {{prefix: /{name}}}}}, backends: [{{upstream: {name}}}]"
    parts = {"upstreams": f"{fine}}}\n", "routes": f"{route}}}\n"}
    kinds: tuple[Callable[[], dict[str, str]], ...] = (
        lambda: {"listeners": f"  {name}: {{port: {taken}, access_log: none}}\n"},
        lambda: {"upstreams": f"{fine}, envoy: {{cluster: {{connect_timeout: -{number + 1}s}}}}}}\n"},
        lambda: {"routes": f'{route}, envoy: {{route: {{decorator: {{operation: ""}}}}}}}}\n'},
        lambda: {"http": f", envoy: {{http_connection_manager: {{stream_idle_timeout: -{number + 1}s}}}}"},
    )
    return document(upstream, **(parts | kinds[number % len(kinds)]()))


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    with postgres.server() as server:
        yield Databases(server)


@asynccontextmanager
async def envoy(name: str, port: int, folder: Path, **labels: str) -> AsyncIterator[real.Envoy]:
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    made = real.bootstrap("delta", port)
    made["node"] = {"id": name, "cluster": "edge", "metadata": {"labels": labels}}
    config = folder / "bootstrap.json"
    await asyncio.to_thread(config.write_text, json.dumps(made))
    async with real.started(config, folder) as found:
        yield found


@asynccontextmanager
async def three(port: int, folder: Path) -> AsyncIterator[list[real.Envoy]]:
    """They share the port of the listener, and with it the load; the first is the canary."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(envoy("envoy-0", port, folder / "0", canary="true"))
        others = [await stack.enter_async_context(envoy(f"envoy-{n}", port, folder / str(n))) for n in (1, 2)]
        yield [one, *others]


async def synced(api: Api, count: int, seconds: float = 20) -> float:
    """Until so many nodes have what is published; how long that took."""
    began = time.monotonic()
    while True:
        published = api.publisher.state.published
        rows = [row for row in api.hub.board.rows if row.connected]
        if published is not None and len(rows) == count and all(row.synced(published.snapshot) for row in rows):
            return time.monotonic() - began
        assert time.monotonic() - began < seconds, [row.id for row in rows if not row.synced(published.snapshot)]  # type: ignore[union-attr]
        await asyncio.sleep(0.02)


async def undone(api: Api, revision: int) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            found: dict[str, Any] = (await api.client.get(f"/v1/rollouts/{revision}")).json()["rollout"]
            if found["state"] == "rolled_back":
                return found
            assert found["state"] == "running", found
            await asyncio.sleep(0.1)


def seconds(rollout: dict[str, Any], what: str, then: str) -> float:
    """Between two events of a rollout, by the database's clock."""
    at = {event["what"]: datetime.fromisoformat(event["at"]) for event in rollout["events"]}
    return (at[then] - at[what]).total_seconds()


async def test_no_bad_revision_gets_past_the_canary(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waves, "SETTLE", timedelta(seconds=0.5))
    listener, sims = real.free_port(), [Sim(f"sim-{n:02}") for n in range(50)]
    halts, backs = [], []
    settings = Settings(listener_ports={"http": listener})
    async with (
        real.upstream("good") as upstream,
        control_plane(databases.fresh(), tmp_path / "secrets", settings=settings) as api,
    ):
        server = await ads.start(api.hub, "127.0.0.1:0")
        await api.applied(document(upstream))
        await api.published(1)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            async with three(server.port, tmp_path) as envoys, fleet(server.port, sims):
                await synced(api, 53)
                await envoys[0].sees("/", 200, "good")
                with loaded(listener, "/", pause=0.002) as outcome:
                    for number in range(REVISIONS):
                        text = bad(number, taken.getsockname()[1], upstream)
                        revision = (await api.applied(text, allow_shrink=True))["revision"]
                        found = await undone(api, revision)
                        await api.published(revision + 1)
                        backs.append(await synced(api, 53) + seconds(found, "wave_started", "rolled_back"))
                        halts.append(seconds(found, "wave_started", "halted"))
                        assert found["reason"] == f"envoy-0 refused revision {revision}", number
                        halt = next(event for event in found["events"] if event["what"] == "halted")
                        assert halt["nacks"][0]["message"]
                        assert halt["nacks"][0]["path"], halt
            async with three(server.port, tmp_path) as envoys:
                await synced(api, 3)
                pages = [(await one.http.get(f"{one.admin}/clusters")).text for one in envoys]
                listeners = [(await one.http.get(f"{one.admin}/listeners")).text for one in envoys]
        await server.stop(0)
    assert not any(name.startswith("bad") for sim in sims for name in sim.offered)
    assert outcome.requests > 100
    assert outcome.failed == 0, outcome.statuses
    assert all("good::" in page and "bad" not in page for page in pages)
    assert all(page.startswith("http::") for page in listeners)
    passed = max(halts) <= 1 and max(backs) <= 3
    record(
        "R19", value=round(max(backs), 2), passed=passed, unit="s", halted_within=round(max(halts), 2),
        revisions=REVISIONS, envoys=3, simulated=50, requests=outcome.requests, failed=outcome.failed,
    )  # fmt: skip
    record("R20", value=1.0, passed=True, unit="share of Envoys on what was good", revisions=REVISIONS)
    assert max(halts) < 5
    assert max(backs) < 10
