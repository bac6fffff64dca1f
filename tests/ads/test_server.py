"""The server over a real loopback channel, with simulated clients."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse
from envoy.service.discovery.v3.discovery_pb2 import Resource as ResourceMessage
from google.protobuf.any_pb2 import Any as AnyMessage
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from tests.ads.dialogue import MAKERS, cluster, routes
from tests.ads.simulated import Client, Kind, Response, connected
from xds_server.ads.hub import Hub
from xds_server.ads.server import ADS, ONE_VARIANT, SERVICES, AdsOptions, AdsServer, start, stream_age
from xds_server.ads.servicer import Pace, Tokens
from xds_server.ads.stream import Limits
from xds_server.resources import CLUSTER, EXTENSION, ROUTES, Resource, Snapshot

kinds = pytest.mark.parametrize("kind", ["sotw", "delta"])


@pytest.fixture
def hub() -> Hub:
    return Hub()


@asynccontextmanager
async def serving(hub: Hub, **more: Any) -> AsyncIterator[AdsServer]:
    server = await start(hub, "127.0.0.1:0", **more)
    try:
        yield server
    finally:
        await server.stop(0)


@asynccontextmanager
async def client(hub: Hub, kind: Kind, *, node: str = "sim", **more: Any) -> AsyncIterator[Client]:
    async with serving(hub, **more) as server, connected(server.port) as channel:
        yield Client(channel, kind, node=node)


async def until(condition: Callable[[], Any], what: str) -> None:
    """Raises TimeoutError when `what` does not come true."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition may be anything
            await asyncio.sleep(0.005)


def contents(response: Response) -> list[bytes]:
    if isinstance(response, DiscoveryResponse):
        return [resource.value for resource in response.resources]
    return [resource.resource.value for resource in response.resources]


@kinds
async def test_a_change_reaches_the_client_and_the_board(hub: Hub, kind: Kind) -> None:
    hub.publish(Snapshot.of(1, [routes("a"), cluster("c")]))
    async with client(hub, kind) as c:
        await c.say(ROUTES, "a")
        first = await c.take()
        assert contents(first) == [routes("a").SerializeToString()]
        second = Snapshot.of(2, [routes("a", 1), cluster("c")])
        hub.publish(second)
        assert not hub.board.synced(second)
        changed = await c.take()
        assert contents(changed) == [routes("a", 1).SerializeToString()]
        assert await hub.converged(second, 10) == ()
        (row,) = hub.board.rows
        assert (row.id, row.cluster, row.mode, row.revision) == ("sim", "edge", kind, 2)
        assert row.types[ROUTES].acked_version == second.types[ROUTES].version
    await until(lambda: not hub.board.rows[0].connected, "the node is listed as gone")


@kinds
async def test_s11_a_nack_is_on_the_board_in_the_log_and_with_the_listeners(hub: Hub, kind: Kind) -> None:
    heard: list[Any] = []
    hub.listen(lambda row, event: heard.append((row.id, row.types[ROUTES].nack, event)))
    bad = Snapshot.of(1, [routes("a")])
    hub.publish(bad)
    with capture_logs() as logs:
        async with client(hub, kind) as c:
            await c.say(ROUTES, "a")
            await c.answer(await c.hear(), "regex '((' is bad")
            await until(lambda: heard, "the listener is told")
            good = Snapshot.of(2, [routes("a", 1)])
            assert not hub.board.synced(bad)
            hub.publish(good)
            await c.take()
            assert await hub.converged(good, 10) == ()
            assert len(c.log) == 2
    (node, nack, event), *_ = heard
    assert node == "sim"
    assert (nack.message, nack.names, nack.version) == ("regex '((' is bad", ("a",), bad.types[ROUTES].version)
    assert event.nonce == nack.nonce
    (warning,) = [line for line in logs if line["event"] == "xds nack"]
    assert warning["log_level"] == "warning"
    assert (warning["node"], warning["message"], warning["names"]) == ("sim", "regex '((' is bad", ("a",))
    assert warning["version"] == bad.types[ROUTES].version
    assert [line["log_level"] for line in logs if line["event"] == "xds ack"] == ["debug"]


@kinds
async def test_a_stream_opened_before_the_first_snapshot_waits(hub: Hub, kind: Kind) -> None:
    async with client(hub, kind) as c:
        await c.say(CLUSTER)
        await until(lambda: hub.board.rows, "the node is on the board")
        with pytest.raises(TimeoutError):
            await c.hear(0.3)
    async with client(hub, kind) as c:
        await c.say(CLUSTER)
        await until(lambda: any(row.connected for row in hub.board.rows), "the node is on the board")
        hub.publish(Snapshot.of(1, [cluster("c")]))
        assert contents(await c.take()) == [cluster("c").SerializeToString()]


async def test_health_is_serving_once_there_is_a_snapshot(hub: Hub) -> None:
    states = health_pb2.HealthCheckResponse
    async with serving(hub) as server, connected(server.port) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def state(service: str) -> Any:
            return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status

        assert await state(ADS) == await state("") == states.NOT_SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=ADS))
        assert (await watch.read()).status == states.NOT_SERVING
        hub.publish(Snapshot.of(1, []))
        assert (await watch.read()).status == states.SERVING
        for service in SERVICES:
            assert await state(service) == states.SERVING
        watch.cancel()


@kinds
@pytest.mark.parametrize("service", [name for name in SERVICES if name != ADS])
async def test_s02_typed_services_serve_their_type(hub: Hub, kind: Kind, service: str) -> None:
    suffix, type_url = SERVICES[service]
    message = MAKERS[type_url]("a")
    hub.publish(Snapshot.of(1, [message]))
    prefix = "Stream" if kind == "sotw" else "Delta"
    if ONE_VARIANT.get(type_url, prefix) != prefix:
        async with serving(hub) as server, connected(server.port) as channel:
            code, _ = await Client(channel, kind, method=f"/{service}/{prefix}{suffix}").end()
        assert code is grpc.StatusCode.UNIMPLEMENTED
        return
    async with serving(hub) as server, connected(server.port) as channel:
        c = Client(channel, kind, method=f"/{service}/{prefix}{suffix}")
        await c.say("", "a")
        response = await c.hear()
        assert response.type_url == type_url
        assert contents(response) == [message.SerializeToString(deterministic=True)]


async def test_fetch_is_not_offered(hub: Hub) -> None:
    async with serving(hub) as server, connected(server.port) as channel:
        fetch = channel.unary_unary("/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await fetch(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@kinds
@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"node": None, "type_url": ROUTES}, "INVALID_ARGUMENT", "node.id"),
        ({"type_url": ""}, "INVALID_ARGUMENT", "type_url"),
        ({"type_url": ROUTES, "names": [f"r{i}" for i in range(11)]}, "RESOURCE_EXHAUSTED", "10 resource names"),
        ({"type_url": ROUTES, "names": ["x" * 5000]}, "RESOURCE_EXHAUSTED", "4000 bytes"),
    ],
    ids=["no node", "no type", "many names", "large"],
)
async def test_refused_requests_end_the_stream_with_a_reason(
    hub: Hub, kind: Kind, fields: dict[str, Any], code: str, says: str
) -> None:
    options = AdsOptions(limits=Limits(names=10), pace=Pace(request_bytes=4000))
    async with client(hub, kind, options=options) as c:
        fields = dict(fields)
        await c.say(fields.pop("type_url"), *fields.pop("names", ()), **fields)
        status, details = await c.end()
    assert status is getattr(grpc.StatusCode, code)
    assert says in details


@kinds
async def test_s01_a_changed_node_id_ends_the_stream(hub: Hub, kind: Kind) -> None:
    async with client(hub, kind) as c:
        await c.say(ROUTES, "a")
        await c.say(ROUTES, "a", node=Node(id="somebody-else"))
        status, details = await c.end()
    assert (status, details) == (grpc.StatusCode.INVALID_ARGUMENT, "node.id changed within a stream")


@kinds
async def test_garbage_ends_the_stream_and_only_that_one(hub: Hub, kind: Kind) -> None:
    hub.publish(Snapshot.of(1, [routes("a")]))
    async with serving(hub) as server, connected(server.port) as channel:
        good, bad = Client(channel, kind), Client(channel, kind)
        await good.say(ROUTES, "a")
        await bad.call.write(b"\xff\xff not a protobuf")
        assert (await bad.end())[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert contents(await good.take()) == [routes("a").SerializeToString()]


async def test_s57_streams_leave_nothing_behind(hub: Hub) -> None:
    hub.publish(Snapshot.of(1, [routes("a")]))
    registry = CollectorRegistry()
    async with serving(hub, registry=registry) as server:
        await asyncio.sleep(0.05)
        slots = len(hub._slots)  # the server has one of its own
        before = len(asyncio.all_tasks())  # gRPC's own task that waits for calls is another one after each call
        async with connected(server.port) as channel:
            clients = [Client(channel, kind) for kind in ("sotw", "delta") for _ in range(10)]
            for c in clients:
                await c.say(ROUTES, "a")
                await c.take()
            assert registry.get_sample_value("gw_xds_streams", {"type": "sotw"}) == 10
            assert len(hub._slots) == slots + 20
            for index, c in enumerate(clients):
                await (c.call.done_writing() if index % 2 else asyncio.sleep(0, c.call.cancel()))
            await until(lambda: not any(row.connected for row in hub.board.rows), "all streams have ended")
        await until(lambda: len(asyncio.all_tasks()) <= before, "no task is left")
        assert len(hub._slots) <= slots
        assert registry.get_sample_value("gw_xds_streams", {"type": "sotw"}) == 0
        assert registry.get_sample_value("gw_xds_streams", {"type": "delta"}) == 0


@kinds
async def test_s57_stopping_the_server_ends_streams_and_frees_the_port(hub: Hub, kind: Kind) -> None:
    hub.publish(Snapshot.of(1, [routes("a")]))
    server = await start(hub, "127.0.0.1:0")
    async with connected(server.port) as channel:
        c = Client(channel, kind)
        await c.say(ROUTES, "a")
        await c.take()
        with pytest.raises(OSError, match="cannot listen on"):
            await start(Hub(), f"127.0.0.1:{server.port}")
        began = time.monotonic()
        await server.stop(30)
        assert time.monotonic() - began < 15  # nobody has to be cut
        assert (await c.end())[0] is grpc.StatusCode.OK
    await until(lambda: not any(row.connected for row in hub.board.rows), "the stream has ended")
    again = await start(hub, f"127.0.0.1:{server.port}")
    await again.stop(0)


@kinds
async def test_a_stream_of_age_ends_without_an_error(hub: Hub, kind: Kind) -> None:
    async with client(hub, kind, options=AdsOptions(max_age=0.2)) as c:
        await c.say(ROUTES, "a")
        assert (await c.end())[0] is grpc.StatusCode.OK


def test_r26_ages_are_spread() -> None:
    uniform = random.Random(7).uniform
    ages = [stream_age(1800, uniform) for _ in range(10_000)]
    assert all(1440 <= age <= 2160 for age in ages)
    assert max(Counter(int(age) for age in ages).values()) <= 200


async def test_s58_a_client_that_does_not_read_gets_the_newest_when_it_does(hub: Hub) -> None:
    def big(edition: int) -> TypedExtensionConfig:
        return TypedExtensionConfig(name="e", typed_config=AnyMessage(value=b"%06d" % edition + bytes(1_000_000)))

    hub.publish(Snapshot.of(0, [big(0)]))
    async with client(hub, "sotw") as c:
        await c.say(EXTENSION, "e")
        first = await c.hear()
        for edition in range(1, 100):
            hub.publish(Snapshot.of(edition, [big(edition)]))
            await asyncio.sleep(0)
        await c.answer(first)
        assert b"000099" in contents(await c.take())[0][:40]
        assert await hub.converged(99, 10) == ()
        assert len(c.log) == 2


async def test_s58_a_client_that_never_reads_is_cut(hub: Hub) -> None:
    value = AnyMessage(value=bytes(1_000_000))
    hub.publish(Snapshot.of(1, [TypedExtensionConfig(name=f"e{i}", typed_config=value) for i in range(8)]))
    async with client(hub, "sotw", options=AdsOptions(pace=Pace(write=0.3))) as c:
        await c.say(EXTENSION)
        await until(lambda: hub.board.rows and not hub.board.rows[0].connected, "the stream is cut")


async def test_s52_a_client_that_keeps_silent_about_clusters_gets_its_routes_after_a_while(hub: Hub) -> None:
    hub.publish(Snapshot.of(1, [cluster("c"), routes("r")]))
    async with client(hub, "delta", options=AdsOptions(pace=Pace(clusters=0.2))) as c:
        await c.say(CLUSTER)
        await c.take()
        await c.say(ROUTES, "r")
        await c.take()
        hub.publish(Snapshot.of(2, [cluster("c", 1), routes("r", 1)]))
        assert (await c.hear()).type_url == CLUSTER
        assert (await c.hear()).type_url == ROUTES


async def test_one_content_is_encoded_once_for_many_clients(hub: Hub) -> None:
    hub.publish(Snapshot.of(1, [cluster("c")]))
    async with serving(hub) as server, connected(server.port) as channel:
        clients = [Client(channel, "sotw", node=f"n{i}") for i in range(40)]
        lives = [asyncio.create_task(c.live()) for c in clients]
        for c in clients:
            await c.say(CLUSTER)
        await until(lambda: len(hub.board.rows) == 40, "all are connected")
        assert await hub.converged(1, 10) == ()
        final = Snapshot.of(2, [cluster("c", 1)])
        hub.publish(final)
        assert await hub.converged(final, 10) == ()
        await until(lambda: all(len(c.log) == 2 for c in clients), "each has both")
        assert len({contents(c.log[1])[0] for c in clients}) == 1
        assert len({c.log[1].nonce for c in clients}) == 40
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)


@kinds
async def test_opinions_of_many_clients_are_kept_apart(hub: Hub, kind: Kind) -> None:
    """One accepts, one refuses, one keeps silent: each has its own row, and only the first is in sync."""
    snapshot = Snapshot.of(1, [routes("a")])
    hub.publish(snapshot)
    opinions: dict[str, Callable[[Response], str | None]] = {
        "good": lambda r: "",
        "bad": lambda r: "no",
        "mute": lambda r: None,
    }
    async with serving(hub) as server, connected(server.port) as channel:
        clients = {name: Client(channel, kind, node=name) for name in opinions}
        lives = [asyncio.create_task(c.live(opinions[name])) for name, c in clients.items()]
        for c in clients.values():
            await c.say(ROUTES, "a")
        await until(lambda: any(r.types[ROUTES].nack for r in hub.board.rows if ROUTES in r.types), "one refuses")
        behind = await hub.converged(snapshot, 0.3)
        assert sorted(row.id for row in behind) == ["bad", "mute"]
        assert [len(c.log) for c in clients.values()] == [1, 1, 1]
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)


async def test_metrics_count_answers_and_never_name_a_node(hub: Hub) -> None:
    registry = CollectorRegistry()
    hub.publish(Snapshot.of(1, [routes("a")]))
    async with client(hub, "delta", registry=registry) as c:
        await c.say(ROUTES, "a")
        await c.take()
        hub.publish(Snapshot.of(2, [routes("a", 1)]))
        await c.answer(await c.hear(), "no")
        counted = {"type_url": ROUTES, "result": "nack"}
        await until(lambda: registry.get_sample_value("gw_xds_responses_total", counted), "the NACK is counted")
    assert registry.get_sample_value("gw_xds_responses_total", {"type_url": ROUTES, "result": "ack"}) == 1
    assert registry.get_sample_value("gw_xds_sent_total", {"type_url": ROUTES}) == 2
    assert registry.get_sample_value("gw_xds_ack_seconds_count") == 1
    labels = {label for metric in registry.collect() for sample in metric.samples for label in sample.labels}
    assert labels <= {"type", "type_url", "result", "le"}


def test_a_reader_that_is_too_fast_waits() -> None:
    tokens = Tokens(rate=10, burst=3)
    waits = [tokens.take() for _ in range(6)]
    assert waits[:3] == [0, 0, 0]
    assert 0.25 < waits[5] <= 0.3


async def test_r29_a_flood_on_one_stream_leaves_the_others_alone(hub: Hub) -> None:
    hub.publish(Snapshot.of(1, [routes("a")]))
    options = AdsOptions(pace=replace(Pace(), rate=50, burst=20))
    async with (
        serving(hub, options=options) as server,
        connected(server.port) as channel,
        connected(server.port) as other,
    ):
        flood = Client(channel, "delta", node="flood")

        async def shout() -> None:
            while True:
                await flood.say(ROUTES, "a")

        shouting = asyncio.create_task(shout())
        await until(lambda: hub.board.rows, "the flood has begun")
        calm = Client(other, "sotw", node="calm")
        await calm.say(ROUTES, "a")
        assert contents(await calm.take()) == [routes("a").SerializeToString()]
        shouting.cancel()
        await asyncio.gather(shouting, return_exceptions=True)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.test:1"])
async def test_plaintext_stays_on_this_machine(address: str) -> None:
    with pytest.raises(ValueError, match="not a loopback address"):
        await start(Hub(), address)


async def test_plaintext_beyond_this_machine_is_possible_and_loud() -> None:
    with capture_logs() as logs:
        server = await start(Hub(), "0.0.0.0:0", insecure_plaintext=True)
        await server.stop(0)
    assert [line["log_level"] for line in logs if "without TLS" in line["event"]] == ["warning"]


@kinds
async def test_s52_a_talkative_client_does_not_put_off_its_routes(hub: Hub, kind: Kind) -> None:
    """It is silent about its clusters, and asks for other things all the time."""
    hub.publish(Snapshot.of(1, [cluster("c"), routes("r")]))
    async with client(hub, kind, options=AdsOptions(pace=Pace(clusters=0.3))) as c:
        for type_url, name in ((CLUSTER, "c"), (ROUTES, "r")):
            await c.say(type_url, name)
            await c.take()
        hub.publish(Snapshot.of(2, [cluster("c", 1), routes("r", 1)]))
        assert (await c.hear()).type_url == CLUSTER

        async def chatter() -> None:
            while True:
                await c.say(EXTENSION, "nothing")
                await asyncio.sleep(0.05)

        chattering = asyncio.create_task(chatter())
        while (response := await c.hear()).type_url == EXTENSION:
            await c.answer(response)
        chattering.cancel()
        await asyncio.gather(chattering, return_exceptions=True)
    assert response.type_url == ROUTES


@kinds
async def test_s57_a_stream_that_ends_in_the_middle_of_a_response_ends_for_the_client_too(hub: Hub, kind: Kind) -> None:
    """A status cannot overtake a message: without waiting for it nobody would ever tell the client."""
    value = AnyMessage(value=bytes(4_000_000))
    hub.publish(Snapshot.of(1, [TypedExtensionConfig(name=f"e{i}", typed_config=value) for i in range(3)]))
    async with serving(hub) as server, connected(server.port) as channel:
        for _ in range(10):
            c = Client(channel, kind)
            await c.say(EXTENSION)
            await c.call.done_writing()
            life = asyncio.create_task(c.live())
            assert (await c.end())[0] is grpc.StatusCode.OK
            await asyncio.gather(life, return_exceptions=True)


@kinds
@pytest.mark.parametrize("told", [True, False])
async def test_s53_s55_a_life_is_told_to_who_understands_it_and_taken_back(hub: Hub, kind: Kind, told: bool) -> None:
    features = ["xds.config.supports-resource-ttl", "xds.config.supports-resource-in-sotw"] if told else []

    def life(response: Response) -> int:
        (resource,) = response.resources
        if isinstance(resource, AnyMessage):
            wrapped = ResourceMessage()
            return wrapped.ttl.seconds if resource.Unpack(wrapped) else 0
        return resource.ttl.seconds

    hub.publish(Snapshot.of(1, [routes("a")], lambda message: Resource.of(message, 30.0)))
    async with client(hub, kind) as c:
        await c.say(ROUTES, "a", node=Node(id="sim", client_features=features))
        assert life(await c.take()) == (30 if told else 0)
        hub.publish(Snapshot.of(2, [routes("a")]))
        assert life(await c.take()) == 0
