"""Rollouts on a whole control plane with PostgreSQL and a fleet of simulated nodes over real channels."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.admin.conftest import Api, control_plane
from tests.rollout.fleet import Sim, fleet, refuses_bad, silent_about_bad
from tests.support import postgres
from tests.support.postgres import Databases
from tests.support.results import record
from xds_server.ads import server as ads

WAVES = """\
version: 1
owner: team
listeners:
  http: {port: 8080}
rollout:
  waves:
    - {name: canary, nodes: {labels: {canary: "true"}}, soak: CANARY}
    - {name: half, nodes: {percent: 50%}, soak: 0s}
    - {name: all}
  halt_on: {nack: 1, ack_timeout: TIMEOUT}
  on_halt: ON_HALT
"""


def document(
    *upstreams: str, soak: str = "0s", timeout: str = "30s", on_halt: str = "rollback", waves: bool = True
) -> str:
    """One route to each upstream."""
    head = WAVES.replace("CANARY", soak).replace("TIMEOUT", timeout).replace("ON_HALT", on_halt)
    if not waves:
        head = head[: head.index("rollout:")]
    clusters = "".join(
        f"  {name}: {{type: static, endpoints: [{{address: 10.0.0.1, port: 9000}}]}}\n" for name in upstreams
    )
    routes = "".join(
        f"      {name}: {{match: {{path: {{prefix: /{name}}}}}, backends: [{{upstream: {name}}}]}}\n"
        for name in upstreams
    )
    return f"{head}upstreams:\n{clusters}tiers: {{zinc: {{unlimited: true}}}}\nmodules:\n  orders:\n    tier: zinc\n    listener: http\n    authentication: none\n    routes:\n{routes}"


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    with postgres.server() as server:
        yield Databases(server)


@dataclass
class Plane:
    api: Api
    port: int
    server: ads.AdsServer

    async def rollout(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.api.client.get("/v1/rollout")).json()
        return found["rollout"] or {"state": "none", "waves": []}

    async def until(self, state: str, seconds: float = 20) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while (found := await self.rollout())["state"] != state:
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)
        return found

    async def act(self, action: str, **body: Any) -> Any:
        return await self.api.client.post(f"/v1/rollout/{action}", json=body or None)


@asynccontextmanager
async def plane(url: str, directory: Path, *, first: bool = True, name: str = "one") -> AsyncIterator[Plane]:
    async with control_plane(url, directory / "secrets", first=first, name=name) as api:
        server = await ads.start(api.hub, "127.0.0.1:0")
        try:
            yield Plane(api, server.port, server)
        finally:
            await server.stop(0)


@pytest.fixture
async def one(databases: Databases, tmp_path: Path) -> AsyncIterator[Plane]:
    async with plane(databases.fresh(), tmp_path) as made:
        yield made


def sims(count: int, opinion: Callable[[frozenset[str]], str | None] = refuses_bad) -> list[Sim]:
    """The first is the canary."""
    return [Sim(f"edge-{n:02}", {"canary": "true"} if n == 0 else {}, opinion) for n in range(count)]


async def all_have(nodes: list[Sim], clusters: set[str], seconds: float = 15) -> float:
    """Seconds until they do."""
    began = time.monotonic()
    while behind := [
        sim.id
        for sim in nodes
        if not clusters == {n for n in sim.has if n in clusters or n.startswith(("good", "bad"))}
    ]:
        assert time.monotonic() - began < seconds, (behind, nodes[0].has)
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def test_a_change_reaches_50_nodes_wave_by_wave(one: Plane) -> None:
    nodes = sims(50)
    await one.api.applied(document("good"))
    await one.api.published(1)
    async with fleet(one.port, nodes):
        await all_have(nodes, {"good"})
        done = await one.api.applied(document("good", "good-2"))
        found = await one.until("done")
        assert (found["revision"], found["base"]) == (done["revision"], 1) == (2, 1)
        await all_have(nodes, {"good", "good-2"})
    began = [(event["wave"], event["count"]) for event in found["events"] if event["what"] == "wave_started"]
    assert began == [("canary", 1), ("half", 25), ("all", 24)]
    assert [wave["state"] for wave in found["waves"]] == ["done"] * 3


async def test_a_refusal_halts_and_everybody_is_back_on_what_was_good(one: Plane) -> None:
    nodes = sims(50)
    await one.api.applied(document("good"))
    await one.api.published(1)
    async with fleet(one.port, nodes):
        await all_have(nodes, {"good"})
        await one.api.applied(document("good", "bad"), message="worse")
        began = time.monotonic()
        found = await one.until("rolled_back")
        halted = time.monotonic() - began
        await one.api.published(3)
        back = halted + await all_have(nodes, {"good"})
        assert "bad" in nodes[0].offered
        assert not any("bad" in sim.offered for sim in nodes[1:])
        # who never had it is sent nothing at all
        assert {sim.responses for sim in nodes[1:]} == {2}
    assert found["reason"] == "edge-00 refused revision 2"
    halt = next(event for event in found["events"] if event["what"] == "halted")
    assert halt["nacks"][0]["message"] == "bad: the port is taken"
    assert halt["nacks"][0]["file"] == "routes.yaml"
    newest = (await one.api.client.get("/v1/revisions/3")).json()
    assert newest["author"] == "rollout"
    assert newest["message"].startswith(
        "back to revision 1: edge-00 refused revision 2\nCluster: bad: the port is taken\nroutes.yaml:"
    )
    assert newest["version"] == (await one.api.client.get("/v1/revisions/1")).json()["version"]
    record("R19", case="simulated", value=round(back, 3), passed=halted < 4 and back < 6, unit="s", nodes=50)
