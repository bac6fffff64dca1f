"""A client that Envoy did not write: grpcio's own xDS client finds a service through our server, and calls it.

It wants SotW ADS, an ApiListener, and endpoints with a locality; it asks LDS and CDS by name, where Envoy asks for all.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from grpc_health.v1 import health, health_pb2_grpc

from tests.ads.real_envoy import eds_cluster
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Snapshot

CLIENT = """
import sys, grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
with grpc.insecure_channel("xds:///greeter") as channel:
    stub = health_pb2_grpc.HealthStub(channel)
    for line in sys.stdin:
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=line.strip()), timeout=20, wait_for_ready=True)
            print(answer.status, flush=True)
        except grpc.RpcError as error:
            print(error.code().name, flush=True)
"""


def api_listener() -> Listener:
    manager = HttpConnectionManager(stat_prefix="greeter")
    manager.rds.route_config_name = "greeter-routes"
    manager.rds.config_source.ads.SetInParent()
    manager.http_filters.add(name="router").typed_config.Pack(Router())
    message = Listener(name="greeter")
    message.api_listener.api_listener.Pack(manager)
    return message


def table(cluster: str) -> RouteConfiguration:
    message = RouteConfiguration(name="greeter-routes")
    route = message.virtual_hosts.add(name="all", domains=["*"]).routes.add()
    route.match.prefix = ""
    route.route.cluster = cluster
    return message


def service(name: str, port: int) -> tuple[Cluster, ClusterLoadAssignment]:
    message = ClusterLoadAssignment(cluster_name=name)
    locality = message.endpoints.add()
    locality.locality.zone = "a"
    locality.load_balancing_weight.value = 1
    address = locality.lb_endpoints.add().endpoint.address.socket_address
    address.address, address.port_value = "127.0.0.1", port
    return eds_cluster(name), message


@asynccontextmanager
async def greeter(known: str) -> AsyncIterator[int]:
    """A gRPC health service that knows one service; the port."""
    server, checks = grpc.aio.server(), health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    await checks.set(known, 1)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@pytest.fixture
def bootstrap(tmp_path: Path) -> Any:
    def write(port: int) -> Path:
        server = {
            "server_uri": f"127.0.0.1:{port}",
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }
        path = tmp_path / "bootstrap.json"
        path.write_text(json.dumps({"xds_servers": [server], "node": {"id": "grpc-1", "cluster": "clients"}}))
        return path

    return write


async def ask(client: Any, service: str) -> str:
    client.stdin.write(f"{service}\n".encode())
    await client.stdin.drain()
    async with asyncio.timeout(30):
        return str((await client.stdout.readline()).decode().strip())


async def moved(client: Any, service: str) -> bool:
    """Once its calls go there: it acknowledges a route before its channel has changed over."""
    async with asyncio.timeout(20):
        while (answer := await ask(client, service)) == "NOT_FOUND":  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.05)
    return answer == "1"


async def test_grpc_resolves_calls_and_moves_with_the_routes(bootstrap: Any) -> None:
    async with greeter("one") as first, greeter("two") as second:
        hub = Hub()
        one, two = service("one", first), service("two", second)
        hub.publish(Snapshot.of(1, [api_listener(), table("one"), *one]))
        server = await start(hub, "127.0.0.1:0")
        environment = {**os.environ, "GRPC_XDS_BOOTSTRAP": str(bootstrap(server.port)), "NO_PROXY": "*"}
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert await ask(client, "one") == "1"
            (row,) = hub.board.rows
            assert (row.id, row.mode, set(row.types)) == ("grpc-1", "sotw", {LISTENER, ROUTES, CLUSTER, ENDPOINTS})
            both = Snapshot.of(2, [api_listener(), table("two"), *one, *two])
            hub.publish(both)
            assert await hub.converged(both, 15) == ()
            assert await moved(client, "two")
            last = Snapshot.of(3, [api_listener(), table("two"), *two])
            hub.publish(last)
            assert await hub.converged(last, 15) == ()
            assert await moved(client, "two")
            assert all(one.last_nack is None for one in hub.board.rows[0].types.values())
        finally:
            client.kill()
            await client.wait()
            await server.stop(0)
