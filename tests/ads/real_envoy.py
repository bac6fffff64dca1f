"""The real Envoy as a client, and hand-built resources for it."""

import asyncio
import json
import socket
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.rbac.v3.rbac_pb2 import RBAC as Rules  # noqa: N811 - two messages of one name
from envoy.config.route.v3.route_components_pb2 import Route
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from tests.ads.simulated import Kind

BINARY = Path(sysconfig.get_path("purelib")) / "envoy" / "_bin" / "envoy"
API = {"sotw": "GRPC", "delta": "DELTA_GRPC"}


def listener(name: str = "http", *, ecds: str = "") -> Listener:
    """An HTTP listener on any loopback port, its routes over RDS under the same name, one filter over ECDS if asked."""
    manager = HttpConnectionManager(stat_prefix=name)
    manager.rds.route_config_name = name
    manager.rds.config_source.ads.SetInParent()
    manager.rds.config_source.resource_api_version = 2  # V3
    if ecds:
        extension = manager.http_filters.add(name=ecds).config_discovery
        extension.config_source.ads.SetInParent()
        extension.config_source.resource_api_version = 2
        extension.type_urls.append(f"type.googleapis.com/{RBAC.DESCRIPTOR.full_name}")
    manager.http_filters.add(name="router").typed_config.Pack(Router())
    message = Listener(name=name)
    message.address.socket_address.address = "127.0.0.1"
    message.address.socket_address.port_value = 0
    message.filter_chains.add().filters.add(name="hcm").typed_config.Pack(manager)
    return message


def routes(*entries: Route, name: str = "http") -> RouteConfiguration:
    message = RouteConfiguration(name=name)
    message.virtual_hosts.add(name="all", domains=["*"], routes=entries)
    return message


def says(text: str, path: str = "/") -> Route:
    """Envoy itself answers."""
    route = Route()
    route.match.path = path
    route.direct_response.status = 200
    route.direct_response.body.inline_string = text
    return route


def bad_route() -> Route:
    route = Route()
    route.match.safe_regex.regex = "(("
    route.direct_response.status = 200
    return route


def to(cluster: str, path: str = "/up") -> Route:
    route = Route()
    route.match.path = path
    route.route.cluster = cluster
    return route


def eds_cluster(name: str, timeout: int = 1) -> Cluster:
    message = Cluster(name=name, type=Cluster.EDS)
    message.connect_timeout.seconds = timeout
    message.eds_cluster_config.eds_config.ads.SetInParent()
    message.eds_cluster_config.eds_config.resource_api_version = 2
    return message


def assignment(name: str, port: int) -> ClusterLoadAssignment:
    message = ClusterLoadAssignment(cluster_name=name)
    address = message.endpoints.add().lb_endpoints.add().endpoint.address.socket_address
    address.address, address.port_value = "127.0.0.1", port
    return message


def guard(name: str, *, allow: bool) -> TypedExtensionConfig:
    """An RBAC filter that lets everybody in or nobody."""
    rules = Rules(action=Rules.DENY)
    if not allow:
        policy = rules.policies["everybody"]
        policy.permissions.add(any=True)
        policy.principals.add(any=True)
    message = TypedExtensionConfig(name=name)
    message.typed_config.Pack(RBAC(rules=rules))
    return message


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bootstrap(kind: Kind, xds_port: int) -> dict[str, Any]:
    source = {"ads": {}, "resource_api_version": "V3"}
    backoff = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "0.5s"}}
    service = {"envoy_grpc": {"cluster_name": "xds", "retry_policy": backoff}}
    endpoint = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": xds_port}}}
    options = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    return {
        "node": {"id": "envoy-1", "cluster": "edge"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "ads_config": {"api_type": API[kind], "transport_api_version": "V3", "grpc_services": [service]},
            "cds_config": source,
            "lds_config": source,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "xds",
                    "type": "STATIC",
                    "typed_extension_protocol_options": options,
                    "load_assignment": {
                        "cluster_name": "xds",
                        "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
                    },
                }
            ]
        },
    }


@dataclass
class Envoy:
    """A running Envoy; `admin` is the base URL of its own interface."""

    admin: str
    http: httpx.AsyncClient

    async def get(self, path: str, name: str = "http") -> httpx.Response:
        """A request to the listener of this name."""
        return await self.http.get(f"http://127.0.0.1:{await self.port(name)}{path}")

    async def port(self, name: str) -> int:
        async with asyncio.timeout(15):
            while True:
                for line in (await self.http.get(f"{self.admin}/listeners")).text.splitlines():
                    if line.startswith(f"{name}::"):
                        return int(line.rpartition(":")[2])
                await asyncio.sleep(0.02)

    async def sees(self, path: str, status: int, text: str | None = None) -> None:
        """Wait until the listener answers so."""
        answer: httpx.Response | None = None
        try:
            async with asyncio.timeout(15):
                while True:
                    with suppress(httpx.ConnectError):  # a listener is listed before it listens
                        answer = await self.get(path)
                        if answer.status_code == status and text in (None, answer.text):
                            return
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{path} still answers {answer}: {answer and answer.text}") from None


@asynccontextmanager
async def running(kind: Kind, xds_port: int, folder: Path) -> AsyncIterator[Envoy]:
    config = folder / "bootstrap.json"
    config.write_text(json.dumps(bootstrap(kind, xds_port)))
    async with started(config, folder) as envoy:
        yield envoy


@asynccontextmanager
async def started(config: Path, folder: Path) -> AsyncIterator[Envoy]:
    """With this bootstrap; it logs to `envoy.log` in the folder."""
    address = folder / "admin"
    address.unlink(missing_ok=True)
    log = (folder / "envoy.log").open("wb")
    flags = ["--use-dynamic-base-id", "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    with log:
        process = await asyncio.create_subprocess_exec(
            BINARY, "-c", config, "--admin-address-path", address, *flags, stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(20), httpx.AsyncClient(timeout=10, trust_env=False) as http:
            while not (address.exists() and address.read_text()):
                assert process.returncode is None, (folder / "envoy.log").read_text()
                await asyncio.sleep(0.02)
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            yield Envoy(f"http://{address.read_text()}", http)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def upstream(text: str) -> AsyncIterator[int]:
    """A plain HTTP server that always says the same; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text.encode()))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
