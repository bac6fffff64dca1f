"""Which port answers what, with each transport."""

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from policy.transport.servers import Addresses, Servers


async def first_of_watch(port: int) -> int:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=10)
        return (await call.read()).status


async def check(port: int) -> int:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        return (await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)).status


@pytest.mark.parametrize("transport", ["grpcio", "fast"])
async def test_streams_are_where_they_are_said_to_be(transport):
    addresses = Addresses("127.0.0.1:0", "127.0.0.1:0" if transport == "fast" else None)
    servers = Servers((), (), health.aio.HealthServicer(), addresses=addresses, transport=transport)
    port, streams = await servers.start()
    try:
        assert await check(port) == await check(streams) == await first_of_watch(streams) == 1
        assert (port == streams) == (transport == "grpcio")
        if transport == "fast":
            with pytest.raises(grpc.aio.AioRpcError, match="UNIMPLEMENTED"):
                await first_of_watch(port)
    finally:
        await servers.stop(0)


async def test_without_an_address_streams_are_not_served():
    servers = Servers((), (), health.aio.HealthServicer(), addresses=Addresses("127.0.0.1:0"), transport="fast")
    port, streams = await servers.start()
    assert port == streams
    await servers.stop(0)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:", "127.0.0.1:http"])
async def test_what_is_no_address(address):
    servers = Servers((), (), health.aio.HealthServicer(), addresses=Addresses(address), transport="fast")
    with pytest.raises(ValueError, match="host:port"):
        await servers.start()
