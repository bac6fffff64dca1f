"""Rollouts on a whole control plane with PostgreSQL and a fleet of simulated nodes over real channels."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from db import engine as engines
from db import revisions
from tests.admin.conftest import Api, control_plane
from tests.rollout.fleet import Sim, fleet, refuses_bad, silent_about_bad
from tests.support import postgres
from tests.support.postgres import Databases
from tests.support.results import record
from xds_server.ads import server as ads
from xds_server.rollout import waves

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
    module = "    tier: zinc\n    listener: http\n    authentication: none\n    routes:\n"
    return f"{head}upstreams:\n{clusters}tiers: {{zinc: {{unlimited: true}}}}\nmodules:\n  orders:\n{module}{routes}"


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    with postgres.server() as server:
        yield Databases(server)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet that is here already need not be waited for."""
    monkeypatch.setattr(waves, "SETTLE", timedelta(seconds=0.5))


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
    while behind := [sim.id for sim in nodes if own(sim) != clusters]:
        assert time.monotonic() - began < seconds, (behind, nodes[0].has)
        await asyncio.sleep(0.01)
    return time.monotonic() - began


def own(sim: Sim) -> set[str]:
    """The document's clusters that the node has, without those that every gateway has."""
    return {name for name in sim.has if name.startswith(("good", "bad"))}


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


async def test_a_node_that_never_answers_is_named_and_all_others_are_left_alone(one: Plane) -> None:
    """R22."""
    nodes = sims(8, silent_about_bad)
    await one.api.applied(document("good", timeout="1s"))
    await one.api.published(1)
    async with fleet(one.port, nodes):
        await all_have(nodes, {"good"})
        began = time.monotonic()
        await one.api.applied(document("good", "bad", timeout="1s", on_halt="hold"))
        found = await one.until("halted")
        took = time.monotonic() - began
        assert found["waves"][0]["nodes"]["stuck"] == ["edge-00"]
        assert "edge-00 did not take revision 2 within 1 s" in found["reason"]
        assert not any("bad" in sim.offered for sim in nodes[1:])
    record("R22", case="rollout", value=round(took, 2), passed=True, unit="s", ack_timeout=1)


async def test_after_a_halt_every_node_that_restarts_gets_what_was_good(one: Plane) -> None:
    """R20: also while the halt is held, and for nodes that are new."""
    nodes = sims(10)
    await one.api.applied(document("good"))
    await one.api.published(1)
    async with fleet(one.port, nodes):
        await all_have(nodes, {"good"})
        await one.api.applied(document("good", "bad", on_halt="hold"))
        await one.until("halted")
    again = [*sims(10), Sim("new")]
    async with fleet(one.port, again):
        await all_have(again[1:], {"good"})
        assert (await one.act("abort")).json()["state"] == "aborted"
        await one.api.published(3)
        await all_have(again, {"good"})
    assert not any("bad" in sim.offered for sim in again[1:])
    late = [*sims(10), Sim("newer")]
    async with fleet(one.port, late):
        await all_have(late, {"good"})
    assert not any("bad" in sim.offered for sim in late)
    record("R20", case="simulated", value=1.0, passed=True, unit="share of nodes on what was good", nodes=11)


async def test_an_operator_holds_goes_on_and_hurries(one: Plane) -> None:
    nodes = sims(4)
    await one.api.applied(document("good", soak="1h"))
    await one.api.published(1)
    assert (await one.act("pause")).json()["code"] == "no_rollout"
    async with fleet(one.port, nodes):
        await all_have(nodes, {"good"})
        await one.api.applied(document("good", "good-2", soak="1h"))
        await all_have(nodes[:1], {"good", "good-2"})
        assert (await one.act("pause")).json()["state"] == "paused"
        assert (await one.act("pause")).json()["code"] == "not_now"
        assert (await one.act("resume")).json()["state"] == "running"
        promoted = (await one.act("promote")).json()
        assert [wave["state"] for wave in promoted["waves"]] == ["done", "running", "waiting"]
        assert (await one.until("done"))["revision"] == 2
        await all_have(nodes, {"good", "good-2"})

        await one.api.applied(document("good", "bad", soak="1h", on_halt="hold"))
        await one.until("halted")
        assert (await one.act("promote", everywhere=True)).json()["state"] == "done"
        await one.api.published(3)
        assert (await one.act("abort")).json()["code"] == "no_rollout"
    actions = [row["action"] for row in (await one.api.client.get("/v1/audit?limit=200")).json()["entries"]]
    assert actions[0] == "rollout_done"
    assert {"rollout_paused", "rollout_resumed", "rollout_wave_started", "rollout_halted"} <= set(actions)
    assert (await one.api.client.get("/v1/audit/verify")).json()["ok"] is True


async def test_one_change_at_a_time_and_what_is_frozen_waits(one: Plane) -> None:
    nodes = sims(4)
    await one.api.applied(document("good", soak="1h"))
    await one.api.published(1)
    async with fleet(one.port, nodes):
        await all_have(nodes, {"good"})
        await one.api.applied(document("good", "good-2", soak="1h"))
        await all_have(nodes[:1], {"good", "good-2"})
        refused = await one.api.apply(document("good", "good-3"))
        assert (refused.status_code, refused.json()["code"]) == (409, "rollout_running")
        third = await one.api.applied(document("good", "good-3"), supersede=True, prune=True)
        found = await one.until("done")
        assert (found["revision"], found["base"]) == (third["revision"], 1)
        await all_have(nodes, {"good", "good-3"})
        before = (await one.api.client.get("/v1/rollouts/2")).json()["rollout"]
        assert (before["state"], before["by_revision"]) == ("superseded", 3)

        reason = {"reason": "holidays"}
        assert (await one.api.client.put("/v1/rollout/freeze", json=reason)).json()["frozen"]["reason"] == "holidays"
        await one.api.applied(document("good", "good-4", waves=False), prune=True)
        await one.api.applied(document("good", "good-5", waves=False), prune=True)  # nobody has the one before
        await asyncio.sleep(1)
        assert (await one.act("promote")).json()["code"] == "frozen"
        metrics = (await one.api.client.get("/metrics")).text
        assert 'gw_rollout_state{state="running"} 1.0' in metrics
        assert "gw_rollout_frozen 1.0" in metrics
        assert not any(own(sim) != {"good", "good-3"} for sim in nodes)
        assert (await one.api.client.delete("/v1/rollout/freeze")).json() == {"changed": True}
        assert (await one.until("done"))["revision"] == 5
        await all_have(nodes, {"good", "good-5"})
        assert not any("good-4" in sim.offered for sim in nodes)


async def test_a_refusal_that_one_control_plane_hears_halts_the_nodes_of_the_other(
    databases: Databases, tmp_path: Path
) -> None:
    url = databases.fresh()
    mine, others = sims(5), [Sim(f"other-{n}", opinion=refuses_bad) for n in range(5)]
    async with plane(url, tmp_path) as one, plane(url, tmp_path, first=False, name="two") as two:
        await one.api.applied(document("good", soak="1h"))
        await one.api.published(1)
        await two.api.published(1)
        async with fleet(one.port, mine), fleet(two.port, others):
            await all_have([*mine, *others], {"good"})
            await two.api.client.aclose()
            await one.api.applied(document("good", "good-2"))
            await one.until("done")
            await all_have([*mine, *others], {"good", "good-2"})
            # the canary hears of it from one, the other's nodes never do
            await one.api.applied(document("good", "bad"))
            found = await one.until("rolled_back")
            await two.api.published(4)
            await all_have([*mine, *others], {"good", "good-2"})
            assert not any("bad" in sim.offered for sim in [*mine[1:], *others])
            assert sorted(event["what"] for event in found["events"]) == [
                "began",
                "halted",
                "rolled_back",
                "wave_started",
            ]


async def test_a_control_plane_that_starts_during_a_rollout_goes_on_with_it(
    databases: Databases, tmp_path: Path
) -> None:
    url, nodes = databases.fresh(), sims(4)
    async with plane(url, tmp_path) as one:
        token = one.api.token
        await one.api.applied(document("good"))
        await one.api.published(1)
        async with fleet(one.port, nodes):
            await all_have(nodes, {"good"})
            await one.api.applied(document("good", "good-2", soak="4s"))
            await all_have(nodes[:1], {"good", "good-2"})
    again = sims(4)
    async with plane(url, tmp_path, first=False, name="again") as two:
        two.api.client.headers["authorization"] = f"Bearer {token}"
        await two.api.published(1)
        async with fleet(two.port, again):
            await all_have(again[:1], {"good", "good-2"})
            await all_have(again[1:], {"good"})
            found = await two.until("done")
            await all_have(again, {"good", "good-2"})
    assert [event["what"] for event in found["events"]].count("wave_started") == 3
    assert "halted" not in [event["what"] for event in found["events"]]


async def test_whoever_watches_is_told(one: Plane) -> None:
    """Server-sent events."""
    await one.api.applied(document("good"))
    await one.api.published(1)
    seen = one.api.service.rollouts.watch()
    assert (await anext(seen))["rollout"] is None
    await one.api.client.put("/v1/rollout/freeze", json={"reason": "holidays"})
    async with asyncio.timeout(10):
        assert (await anext(seen))["frozen"]["by"] == "bootstrap"
    await seen.aclose()


async def test_a_revision_that_does_not_compile_is_undone_before_any_node_has_it(one: Plane) -> None:
    """It came past apply, which would have refused it."""
    await one.api.applied(document("good"))
    await one.api.published(1)
    rows = await engines.run(one.api.engine, lambda connection: revisions.load(connection, 1))
    broken = [replace(row, body={"type": "static"}) if row.kind == "upstreams" else row for row in rows]
    await revisions.commit(
        one.api.engine, expected_revision=1, objects=broken, author="x", message="", digest="not the real one"
    )
    found = await one.until("rolled_back")
    assert found["reason"].startswith("revision 2 is not published: ")
    assert found["wave"] == -1
    await one.api.published(3)
    assert one.api.publisher.state.failure is None
