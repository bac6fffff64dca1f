"""Status, health and metrics: what the fleet has, told while it changes and while the database is away."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from db import migrate
from gateway import nodes
from gwctl.up.postgres import Postgres
from tests.admin.conftest import Api, control_plane
from tests.support import postgres
from xds_server import resources
from xds_server.ads.events import Acked, Nacked, Send
from xds_server.ads.groups import view_of


class Node:
    """What an Envoy's stream does to the board."""

    def __init__(self, api: Api, name: str) -> None:
        self.api = api
        self.row = api.hub.board.connect(nodes.Node(name, "edge"), "1.40.0", "sotw", "127.0.0.1:5")
        for url in (resources.CLUSTER, resources.ROUTES):
            api.hub.board.subscribed(self.row.stream, url)

    def take(self) -> None:
        snapshot = self.api.hub.snapshot
        assert snapshot is not None
        for url in (resources.CLUSTER, resources.ROUTES):
            event = Acked(url, snapshot.types[url].version, "1")
            self.api.hub.board.acked(self.row.stream, event)
        self.api.hub.board.settled(self.row.stream, snapshot, {resources.CLUSTER: True, resources.ROUTES: True})

    def refuse(self, message: str) -> None:
        snapshot = self.api.hub.snapshot
        assert snapshot is not None
        kind = snapshot.types[resources.ROUTES]
        self.api.hub.board.sent(
            self.row.stream, Send(resources.ROUTES, "2", kind.version, tuple(kind.resources.values()))
        )
        event = Nacked(resources.ROUTES, kind.version, "2", message, tuple(kind.resources))
        self.api.hub.board.nacked(self.row.stream, event)
        self.api.hub.tell(self.row, event)


async def status(api: Api, **query: Any) -> dict[str, Any]:
    answer = await api.client.get("/v1/status", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_before_anything_is_applied(api: Api) -> None:
    async with asyncio.timeout(10):
        while api.publisher.state.head is None:
            await api.publisher.changed()
    found = await status(api)
    assert (found["revision"], found["state"], found["published"], found["nodes"]) == (0, "pending", None, [])
    assert (await api.client.get("/readyz")).json() == {"status": "ok"}


async def test_a_node_is_stale_then_synced(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    assert (await status(api))["state"] == "synced", "nobody is behind"
    node = Node(api, "edge-1")
    found = await status(api)
    assert (found["state"], found["nodes"][0]["state"]) == ("pending", "stale")
    node.take()
    found = await status(api)
    (shown,) = found["nodes"]
    assert (found["state"], shown["state"], shown["id"], shown["build"]) == ("synced", "synced", "edge-1", "1.40.0")
    assert shown["types"][resources.ROUTES]["acked"] == shown["types"][resources.ROUTES]["version"]
    api.hub.board.disconnect(node.row.stream)
    assert (await status(api))["nodes"][0]["state"] == "gone"


async def test_a_node_is_compared_with_its_own_view(api: Api, document: str) -> None:
    only = "nodes: {labels: {side: left}}"
    await api.applied(document.replace("listeners:", f"listeners:\n  left: {{port: 18081, {only}}}", 1))
    await api.published(1)
    snapshot = api.hub.snapshot
    assert snapshot is not None
    sides = [nodes.Node("left", labels=frozenset({("side", "left")})), nodes.Node("right")]
    for one in sides:
        row, view = api.hub.board.connect(one, "1.40.0", "delta"), view_of(snapshot, one)
        api.hub.board.subscribed(row.stream, resources.LISTENER)
        api.hub.board.settled(row.stream, view, {resources.LISTENER: True})
    found = await status(api)
    assert found["state"] == "synced"
    versions = [one["types"][resources.LISTENER]["version"] for one in found["nodes"]]
    assert versions == [view_of(snapshot, one).types[resources.LISTENER].version for one in sides]
    assert versions[0] != versions[1]


async def test_an_envoy_that_is_too_old_or_has_a_known_hole_is_named(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    row = api.hub.board.connect(nodes.Node("old"), "1.37.11", "delta")
    api.hub.board.subscribed(row.stream, resources.LISTENER)
    api.hub.board.withhold(row.stream, "needs Envoy 1.38: logins by route")
    found = await status(api)
    (shown,) = found["nodes"]
    assert (found["state"], shown["state"]) == ("nacked", "outdated")
    assert shown["warnings"] == [
        "it is not offered the newest: needs Envoy 1.38: logins by route",
        "Envoy 1.37.11 has CVE-2026-47774 (HTTP/2 cookies that take all memory): update it to 1.38.1 or later",
    ]


async def test_a_wait_ends_when_the_last_node_has_it(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    one, other = Node(api, "edge-1"), Node(api, "edge-2")
    one.take()
    waiting = asyncio.create_task(status(api, revision=1, wait=20))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    other.take()
    assert (await asyncio.wait_for(waiting, 5))["state"] == "synced"


async def test_a_wait_begins_before_the_revision_is_there(api: Api, document: str) -> None:
    waiting = asyncio.create_task(status(api, revision=1, wait=20))
    await asyncio.sleep(0.05)
    await api.applied(document)
    found = await asyncio.wait_for(waiting, 15)
    assert (found["state"], found["published"]["revision"]) == ("synced", 1)


async def test_a_wait_ends_with_what_there_is(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    Node(api, "edge-1")
    began = time.monotonic()
    assert (await status(api, revision=1, wait=0.2))["state"] == "pending"
    assert time.monotonic() - began >= 0.2


async def test_a_refusal_ends_a_wait_and_says_where(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    one, _ = Node(api, "edge-1"), Node(api, "edge-2")
    waiting = asyncio.create_task(status(api, revision=1, wait=20))
    await asyncio.sleep(0.05)
    one.refuse("route http: something is wrong")
    found = await asyncio.wait_for(waiting, 5)
    assert found["state"] == "nacked"
    nack = found["nodes"][0]["types"][resources.ROUTES]["nack"]
    assert nack["message"] == "route http: something is wrong"
    assert (nack["path"], nack["file"], nack["line"]) == ("listeners.http", "routes.yaml", 4)
    one.take()
    found = await status(api)
    assert (found["state"], found["nodes"][0]["state"]) == ("pending", "synced"), "taken after all; the other is behind"


async def test_a_secret_that_goes_away_is_told(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    before = api.hub.snapshot
    (api.secrets / "lab-hs").unlink()
    async with asyncio.timeout(10):
        while api.hub.snapshot is before:
            await api.publisher.changed()
    found = await status(api)
    assert found["published"]["revision"] == 1
    (problem,) = found["published"]["problems"]
    assert "lab-hs" in problem["message"]
    assert (problem["file"], problem["line"]) == ("routes.yaml", 11)


async def test_metrics_have_the_names_of_the_manual(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    node = Node(api, "edge-1")
    node.refuse("no")
    text = (await api.client.get("/metrics")).text
    version = api.hub.snapshot.version if api.hub.snapshot else ""
    for line in (
        "gw_build_info{",
        f'gw_snapshot_info{{hash="{version}",revision="1"}} 1.0',
        "gw_snapshot_compile_seconds ",
        'gw_nodes{state="nacked"} 1.0',
        'gw_nodes{state="gone"} 0.0',
        "gw_db_up 1.0",
    ):
        assert line in text, text
    assert "edge-1" not in text
    assert (await api.client.get("/version")).json().keys() == {"version"}


async def reachable(api: Api, expected: bool) -> None:
    deadline = time.monotonic() + 15
    while (await status(api))["database"]["reachable"] is not expected:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def own_server() -> Iterator[Postgres]:
    with postgres.server(fast=False) as server:
        asyncio.run(migrate.upgrade(server.url))
        yield server


@contextmanager
def frozen(server: Postgres) -> Iterator[None]:
    """The server and its backends stop answering, with every connection open."""
    main = psutil.Process(server.pid)
    processes = [main, *main.children()]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


async def everything_needs_the_database(api: Api, document: str) -> None:
    for method, path, body in (
        ("POST", "/v1/apply", {"files": [{"name": "a", "text": document}]}),
        ("POST", "/v1/keys", {"name": "ci", "tier": "zinc"}),
        ("DELETE", "/v1/keys/abc", None),
        ("POST", "/v1/tokens", {"provider": "hs", "subject": "u1"}),
    ):
        began = time.monotonic()
        answer = await api.client.request(method, path, json=body)
        assert answer.status_code == 503, (method, path, answer.text)
        assert answer.json()["code"] == "database_unavailable"
        assert answer.headers["retry-after"] == "2"
        assert time.monotonic() - began < 5


async def test_without_the_database_it_reads_on_and_refuses_changes(
    own_server: Postgres, tmp_path: Path, document: str
) -> None:
    async with control_plane(own_server.url, tmp_path / "secrets") as api:
        await api.applied(document)
        await api.published(1)
        with frozen(own_server):
            await everything_needs_the_database(api, document)
        own_server.kill9()
        await everything_needs_the_database(api, document)
        assert (await api.client.get("/readyz")).status_code == 200
        found = await status(api, revision=1, wait=5)
        assert (found["revision"], found["state"]) == (1, "synced")
        await reachable(api, False)
        stranger = await api.client.get("/v1/status", headers={"authorization": "Bearer gwt_stranger"})
        assert stranger.status_code == 503, "nobody can tell whose it is"
        own_server.start()
        await reachable(api, True)
        assert (await api.applied(document.replace("9000", "9001")))["revision"] == 2
        await api.published(2)
