"""Client status, read with the stub that Envoy's API generates."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from envoy.service.status.v3.csds_pb2 import ERROR, NOT_SENT, STALE, SYNCED, ClientConfig, ClientStatusRequest
from envoy.service.status.v3.csds_pb2_grpc import ClientStatusDiscoveryServiceStub
from envoy.type.matcher.v3.node_pb2 import NodeMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from tests.ads.dialogue import cluster, routes, secret
from tests.ads.simulated import Client, Kind, connected
from xds_server.ads.csds import status
from xds_server.ads.hub import Hub
from xds_server.ads.identity import LOCAL, Peer
from xds_server.ads.server import start
from xds_server.resources import CLUSTER, ROUTES, SECRET, Snapshot

kinds = pytest.mark.parametrize("kind", ["sotw", "delta"])


@pytest.fixture
async def plane() -> AsyncIterator[tuple[Hub, Any]]:
    hub = Hub()
    hub.publish(Snapshot.of(1, [routes("a"), routes("b"), cluster("c"), secret("s", 4711)]))
    server = await start(hub, "127.0.0.1:0")
    async with connected(server.port) as channel:
        yield hub, channel
    await server.stop(0)


async def until(hub: Hub, type_url: str, standing: Any, **more: Any) -> ClientConfig:
    """The only client's status, as soon as all its resources of the type stand so."""
    async with asyncio.timeout(10):
        while True:
            configs = status(hub, ClientStatusRequest(**more), LOCAL).config
            found = [one for config in configs for one in config.generic_xds_configs if one.type_url == type_url]
            if found and {one.config_status for one in found} == {standing}:
                return configs[0]
            await asyncio.sleep(0.01)


@kinds
async def test_each_resource_says_whether_the_node_has_it(plane: tuple[Hub, Any], kind: Kind) -> None:
    hub, channel = plane
    c = Client(channel, kind, node="edge-1")
    await c.say(ROUTES, "a", "b")
    await c.take()
    await until(hub, ROUTES, SYNCED)
    stub = ClientStatusDiscoveryServiceStub(channel)
    (config,) = (await stub.FetchClientStatus(ClientStatusRequest())).config
    assert (config.node.id, config.node.cluster) == ("edge-1", "edge")
    assert [(one.name, one.version_info) for one in config.generic_xds_configs] == [
        (name, r.version)
        for name, r in hub.snapshot.types[ROUTES].resources.items()  # type: ignore[union-attr]
    ]
    assert config.generic_xds_configs[0].xds_config.value == routes("a").SerializeToString(deterministic=True)
    assert config.generic_xds_configs[0].last_updated.seconds > 0
    hub.publish(Snapshot.of(2, [routes("a", 1), routes("b", 1), cluster("c")]))
    await until(hub, ROUTES, STALE)
    await c.answer(await c.hear(), "no such thing")
    found = await until(hub, ROUTES, ERROR)
    for one in found.generic_xds_configs:
        assert one.error_state.details == "no such thing"
        assert one.error_state.last_update_attempt.seconds > 0


async def test_what_waits_is_not_sent(plane: tuple[Hub, Any]) -> None:
    hub, channel = plane
    c = Client(channel, "sotw")
    await c.say(CLUSTER)
    await c.take()
    await until(hub, CLUSTER, SYNCED)
    (row,) = hub.board.rows
    hub.board.subscribed(row.stream, ROUTES)
    await until(hub, ROUTES, NOT_SENT)


async def test_a_stream_answers_each_request_and_contents_can_be_left_out(plane: tuple[Hub, Any]) -> None:
    hub, channel = plane
    c = Client(channel, "delta")
    await c.say(ROUTES, "a")
    await c.take()
    await until(hub, ROUTES, SYNCED)
    call = ClientStatusDiscoveryServiceStub(channel).StreamClientStatus()
    for exclude in (True, False):
        await call.write(ClientStatusRequest(exclude_resource_contents=exclude))
        (config,) = (await call.read()).config
        assert config.generic_xds_configs[0].HasField("xds_config") is not exclude
    await call.done_writing()


async def test_secrets_are_never_shown(plane: tuple[Hub, Any]) -> None:
    hub, channel = plane
    c = Client(channel, "delta")
    await c.say(SECRET, "s")
    await c.take()
    config = await until(hub, SECRET, SYNCED)
    assert [(one.name, one.HasField("xds_config")) for one in config.generic_xds_configs] == [("s", False)]
    assert b"4711" not in config.SerializeToString()


async def test_a_node_sees_itself_and_a_request_chooses(plane: tuple[Hub, Any]) -> None:
    hub, channel = plane
    for name in ("edge-1", "edge-2"):
        c = Client(channel, "delta", node=name)
        await c.say(ROUTES, "a")
        await c.take()

    def shown(peer: Peer, *matchers: NodeMatcher) -> list[str]:
        return [one.node.id for one in status(hub, ClientStatusRequest(node_matchers=matchers), peer).config]

    assert shown(LOCAL) == shown(Peer(operator=True)) == ["edge-1", "edge-2"]
    assert shown(Peer(node="edge-2")) == ["edge-2"]
    assert shown(LOCAL, NodeMatcher(node_id=StringMatcher(exact="EDGE-1", ignore_case=True))) == ["edge-1"]
    assert shown(LOCAL, NodeMatcher(node_id=StringMatcher(suffix="-2"))) == ["edge-2"]
    assert shown(Peer(node="edge-2"), NodeMatcher(node_id=StringMatcher(exact="edge-1"))) == []
    stub = ClientStatusDiscoveryServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.FetchClientStatus(ClientStatusRequest(node_matchers=[NodeMatcher()]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
