"""R35: whatever clients write, the server neither fails nor hangs nor grows, and serves the others.

`TOLLHOUSE_MESSAGES` is how many go to each method; `make fuzz` sends 50,000 to every one.
"""

import asyncio
import os
import random
from contextlib import suppress
from typing import Any

import grpc
import psutil
import pytest
from envoy.config.core.v3.base_pb2 import Node
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.ads.dialogue import MAKERS
from tests.ads.simulated import MESSAGES, Client, Kind, connected
from tests.support.mutate_messages import WORDS, mutated
from xds_server.ads.hub import Hub
from xds_server.ads.server import ADS, ONE_VARIANT, SERVICES, AdsOptions, AdsServer, start
from xds_server.ads.servicer import Pace
from xds_server.resources import PUSH_ORDER, ROUTES, Snapshot

GIVEN = os.environ.get("TOLLHOUSE_MESSAGES")
AGGREGATED = int(GIVEN or 4_000)
EACH = int(GIVEN or 300)

A_STREAM = 40
"""Most messages of one stream."""

GROWTH = 96 * 1024 * 1024
"""Bytes that the process, clients included, may have more afterwards."""

STATUSES = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
TYPES = (*PUSH_ORDER, "type.googleapis.com/no.such.Type", "")
NAMES = ("a", "b", "*", "nobody", *WORDS)


def methods() -> list[tuple[str, str, Kind]]:
    kinds: dict[str, Kind] = {"Stream": "sotw", "Delta": "delta"}
    return [
        (service, f"/{service}/{prefix}{suffix}", kind)
        for service, (suffix, implied) in SERVICES.items()
        for prefix, kind in kinds.items()
        if ONE_VARIANT.get(implied, prefix) == prefix
    ]


def request(chance: random.Random, client: Client, implied: str, first: bool) -> Message:
    """What a client might well say at this point; nonces are those that it has seen, mostly."""
    names = [chance.choice(NAMES) for _ in range(chance.randint(0, 3))]
    fields: dict[str, Any] = {
        "type_url": implied or chance.choice(TYPES[:-1]),
        "resource_names" if client.kind == "sotw" else "resource_names_subscribe": names,
    }
    if first or chance.random() < 0.05:
        fields["node"] = Node(id=client.node, cluster="fuzz")
    if client.log and chance.random() < 0.7:
        answered = chance.choice(client.log[-4:])
        fields |= {"type_url": answered.type_url, "response_nonce": answered.nonce}
    if chance.random() < 0.2:
        fields["error_detail"] = Status(code=13, message=chance.choice(WORDS))
    if client.kind == "delta" and chance.random() < 0.3:
        fields["resource_names_unsubscribe"] = [chance.choice(NAMES)]
        fields["initial_resource_versions"] = {chance.choice(NAMES): chance.choice(WORDS) for _ in range(2)}
    message: Message = client.request_type(**fields)
    return message


async def shout(channel: Any, method: str, kind: Kind, implied: str, chance: random.Random, most: int) -> int:
    """One stream: at most so many messages, then the client is done and the server must be too. Gives how many."""
    client = Client(channel, kind, method=method, node=f"fuzz-{chance.randrange(50)}")
    reading = asyncio.create_task(client.live(lambda response: None))
    said = 0
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the server has ended it
        for said in range(1, most + 1):
            message = request(chance, client, implied, first=said == 1)
            await client.call.write(message.SerializeToString() if said == 1 else mutated(chance, message))
            await asyncio.sleep(0)
        await client.call.done_writing()
    status, details = await client.end()
    assert status in STATUSES or "Internal error from Core" in details, (status, details)
    await asyncio.gather(reading, return_exceptions=True)
    client.call.cancel()  # after a failed write only this side knows of the end
    return said


async def healthy(channel: Any) -> None:
    """A client that does as it should is answered, with what it asks for."""
    for kind in MESSAGES:
        client = Client(channel, kind, node="healthy")
        await client.say(ROUTES, "a")
        response = await client.take()
        assert len(response.resources) == 1
        await client.call.done_writing()
        await client.end()


async def campaign(server: AdsServer, hub: Hub, service: str, method: str, kind: Kind, count: int) -> None:
    chance = random.Random(method)
    left, edition = count, 0
    async with connected(server.port) as channel:
        while left > 0:
            many = [min(chance.randint(1, A_STREAM), left) for _ in range(8)]
            sent = await asyncio.gather(
                *(shout(channel, method, kind, SERVICES[service][1], chance, most) for most in many)
            )
            left -= sum(sent)
            edition = (edition + 1) % 5
            hub.publish(snapshot(edition))
        await healthy(channel)


def snapshot(edition: int) -> Snapshot:
    return Snapshot.of(edition, [make(name, edition) for make in MAKERS.values() for name in ("a", "b")])


@pytest.mark.parametrize(("service", "method", "kind"), methods(), ids=[method for _, method, _ in methods()])
async def test_r35_fuzzed_streams(service: str, method: str, kind: Kind) -> None:
    hub = Hub()
    hub.publish(snapshot(0))
    server = await start(hub, "127.0.0.1:0", options=AdsOptions(pace=Pace(rate=1e6, burst=1e6, clusters=0.05)))
    try:
        count = AGGREGATED if service == ADS else EACH
        await campaign(server, hub, service, method, kind, count // 5)  # caches and pools are filled
        await asyncio.sleep(0.05)
        memory, before = psutil.Process().memory_info().rss, (len(hub._slots), len(asyncio.all_tasks()))
        await campaign(server, hub, service, method, kind, count - count // 5)
        await drained(hub, *before)
        assert psutil.Process().memory_info().rss - memory < GROWTH
    finally:
        await server.stop(0)


async def drained(hub: Hub, slots: int, tasks: int) -> None:
    """No stream, no task of one is left; a task or two of gRPC's come and go."""
    left: tuple[int, ...] = ()
    deadline = asyncio.get_running_loop().time() + 15
    while asyncio.get_running_loop().time() < deadline:
        connected_rows = sum(row.connected for row in hub.board.rows)
        left = (len(hub._slots) - slots, connected_rows, max(0, len(asyncio.all_tasks()) - tasks - 2))
        if not any(left):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"left behind: slots, rows, tasks: {left}")


async def test_r35_fuzzed_health_checks() -> None:
    hub = Hub()
    hub.publish(snapshot(0))
    server, chance = await start(hub, "127.0.0.1:0"), random.Random(1)
    # What cannot be parsed never gets to the service: that answer is gRPC's.
    allowed = {grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
    try:
        async with connected(server.port) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")

            async def ask() -> grpc.StatusCode:
                service = chance.choice((ADS, "", *WORDS))
                call = check(mutated(chance, health_pb2.HealthCheckRequest(service=service)), timeout=10)
                with suppress(grpc.aio.AioRpcError):
                    await call
                return await call.code()  # type: ignore[no-any-return]

            for _ in range(EACH // 50):
                assert set(await asyncio.gather(*(ask() for _ in range(50)))) <= allowed
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=ADS))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            await healthy(channel)
    finally:
        await server.stop(0)
