"""xDS by polling (statement 56): over HTTP as anybody would, and by the real Envoy."""

import asyncio
import importlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from google.api import annotations_pb2

from tests.ads import real_envoy
from tests.ads.dialogue import MAKERS, cluster, routes
from tests.ads.real_envoy import says
from tests.ads.simulated import Kind
from xds_server.ads.hub import Hub
from xds_server.ads.identity import Peer
from xds_server.ads.rest import PATHS, app
from xds_server.ads.servicer import Pace
from xds_server.ads.stream import Limits
from xds_server.resources import CLUSTER, ROUTES, Snapshot

SERVICES = ("cluster.v3.cds", "endpoint.v3.eds", "listener.v3.lds", "route.v3.rds", "route.v3.srds", "secret.v3.sds")
MORE = ("runtime.v3.rtds", "extension.v3.config_discovery")
NODE = {"id": "n", "cluster": "edge"}


class Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        return nullcontext()


@asynccontextmanager
async def serving(hub: Hub, **more: Any) -> AsyncIterator[int]:
    server = Server(uvicorn.Config(app(hub, **more), host="127.0.0.1", port=0, lifespan="off", log_config=None))
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(10):
            while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
                await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def client(hub: Hub, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(hub, **more) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as found,
    ):
        yield found


async def poll(http: httpx.AsyncClient, path: str = "routes", query: str = "", **said: Any) -> httpx.Response:
    headers = said.pop("headers", {})
    return await http.post(f"/v3/discovery:{path}{query}", json={"node": NODE, **said}, headers=headers)


def test_the_paths_are_those_of_envoys_api() -> None:
    found = {}
    for module in (*SERVICES, *MORE):
        services = importlib.import_module(f"envoy.service.{module}_pb2").DESCRIPTOR.services_by_name.values()
        for method in (m for service in services for m in service.methods):
            options = method.GetOptions()
            if options.HasExtension(annotations_pb2.http):
                found[options.Extensions[annotations_pb2.http].post] = method.name
    assert set(found) == set(PATHS)


@pytest.mark.parametrize("path", PATHS)
async def test_a_poll_gets_what_it_asks_for(path: str) -> None:
    make = MAKERS[PATHS[path]]
    hub = Hub()
    if path.endswith("extension_configs"):  # whose maker packs a type that nobody knows
        hub.publish(Snapshot.of(1, [real_envoy.guard("a", allow=True), real_envoy.guard("b", allow=True)]))
    else:
        hub.publish(Snapshot.of(1, [make("a"), make("b")]))
    async with client(hub) as http:
        answer = await poll(http, path.rpartition(":")[2], resource_names=["b", "nobody"])
    assert answer.status_code == 200
    body = answer.json()
    assert body["type_url"] == PATHS[path]
    (resource,) = body["resources"]
    assert resource["@type"] == PATHS[path]
    assert resource.get("cluster_name", resource.get("name")) == "b"


async def test_s56_what_the_client_has_is_304_until_it_changes() -> None:
    hub = Hub()
    hub.publish(Snapshot.of(1, [routes("a"), routes("b"), cluster("c")]))
    async with client(hub) as http:
        version = (await poll(http, resource_names=["a"])).json()["version_info"]
        hub.publish(Snapshot.of(2, [routes("a"), routes("b", 1), cluster("c")]))
        same = await poll(http, resource_names=["a"], version_info=version)
        assert (same.status_code, same.content) == (304, b"")
        hub.publish(Snapshot.of(3, [routes("a", 1), routes("b", 1), cluster("c")]))
        assert (await poll(http, resource_names=["a"], version_info=version)).status_code == 200
        everything = await poll(http)
        assert [r["name"] for r in everything.json()["resources"]] == ["a", "b"]


@pytest.mark.parametrize("how", [{"query": "?wait=20"}, {"headers": {"prefer": "respond-async, wait=20"}}])
async def test_s56_a_held_poll_is_answered_by_the_next_change(how: dict[str, Any]) -> None:
    hub = Hub()
    hub.publish(Snapshot.of(1, [routes("a")]))
    async with client(hub) as http:
        version = (await poll(http, resource_names=["a"])).json()["version_info"]
        held = asyncio.create_task(poll(http, resource_names=["a"], version_info=version, **how))
        await asyncio.sleep(0.2)
        hub.publish(Snapshot.of(2, [routes("a"), cluster("other")]))
        await asyncio.sleep(0.2)
        assert not held.done()
        hub.publish(Snapshot.of(3, [routes("a", 1)]))
        async with asyncio.timeout(10):
            answer = await held
    assert answer.status_code == 200
    assert answer.json()["version_info"] != version


async def test_s56_a_held_poll_ends_when_nothing_changes() -> None:
    hub = Hub()
    hub.publish(Snapshot.of(1, [routes("a")]))
    async with client(hub) as http:
        version = (await poll(http)).json()["version_info"]
        assert (await poll(http, query="?wait=1", version_info=version)).status_code == 304


async def test_before_the_first_snapshot_there_is_no_answer_that_would_delete_anything() -> None:
    hub = Hub()
    async with client(hub) as http:
        assert (await poll(http)).status_code == 503
        held = asyncio.create_task(poll(http, query="?wait=20"))
        await asyncio.sleep(0.1)
        hub.publish(Snapshot.of(1, [routes("a")]))
        assert (await held).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "JSON"),
        (b"\xff", 400, "JSON"),
        (json.dumps({"resource_names": ["a"]}).encode(), 400, "node.id"),
        (json.dumps({"node": NODE, "type_url": CLUSTER}).encode(), 400, ROUTES),
        (json.dumps({"node": NODE, "resource_names": list("abc")}).encode(), 400, "2 resource names"),
        (b" " * 5000, 413, "4000 bytes"),
        (json.dumps({"node": {"id": "other"}}).encode(), 403, "'other'"),
    ],
)
async def test_what_is_no_request_is_refused(body: bytes, status: int, says: str) -> None:
    hub = Hub()
    hub.publish(Snapshot.of(1, [routes("a")]))
    bounds: dict[str, Any] = {"limits": Limits(names=2), "pace": Pace(request_bytes=4000)}
    async with client(hub, authorise=lambda request: Peer(node="n"), **bounds) as http:
        answer = await http.post("/v3/discovery:routes", content=body)
        assert (await http.get("/v3/discovery:routes")).status_code == 405
    assert answer.status_code == status
    assert says in answer.text


async def test_s56_envoy_polls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters, listeners, routes and endpoints, all by REST; a poll that finds nothing new changes nothing."""
    source = {
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": "REST",
            "transport_api_version": "V3",
            "cluster_names": ["xds"],
            "refresh_delay": "0.1s",
        },
    }

    def polling(kind: Kind, port: int) -> dict[str, Any]:
        found = made("sotw", port)
        found["dynamic_resources"] = {"cds_config": source, "lds_config": source}
        del found["static_resources"]["clusters"][0]["typed_extension_protocol_options"]
        return found

    made = real_envoy.bootstrap
    monkeypatch.setattr(real_envoy, "bootstrap", polling)
    async with real_envoy.upstream("here") as upstream:
        hub = Hub()
        fixed = [over_rest(), real_envoy.assignment("up", upstream), eds_over_rest()]
        hub.publish(Snapshot.of(1, [*fixed, real_envoy.routes(real_envoy.to("up"), says("one"))]))
        async with serving(hub) as port, real_envoy.running("sotw", port, tmp_path) as envoy:
            await envoy.sees("/", 200, "one")
            await envoy.sees("/up", 200, "here")
            before = await reloads(envoy)
            await asyncio.sleep(0.5)
            assert await reloads(envoy) == before
            hub.publish(Snapshot.of(2, [*fixed, real_envoy.routes(says("two"))]))
            await envoy.sees("/", 200, "two")


def over_rest() -> Any:
    listener = real_envoy.listener()
    config = listener.filter_chains[0].filters[0].typed_config
    manager = real_envoy.HttpConnectionManager()
    config.Unpack(manager)
    rest(manager.rds.config_source)
    config.Pack(manager)
    return listener


def eds_over_rest() -> Any:
    found = real_envoy.eds_cluster("up")
    rest(found.eds_cluster_config.eds_config)
    return found


def rest(source: Any) -> None:
    source.api_config_source.api_type = 1  # REST
    source.api_config_source.transport_api_version = 2  # V3
    source.api_config_source.cluster_names.append("xds")
    source.api_config_source.refresh_delay.FromMilliseconds(100)


async def reloads(envoy: real_envoy.Envoy) -> Any:
    stats = (await envoy.http.get(f"{envoy.admin}/stats?format=json&filter=^http.http.rds.http.config_reload$")).json()
    return stats["stats"]
