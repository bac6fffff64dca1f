"""A compiled gateway on a real Envoy, without a control plane: what ADS would deliver stands in a static bootstrap."""

import socket
import time
from collections.abc import Mapping
from http.client import HTTPResponse
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap

from gateway.model import decode
from gwctl.up.process import Process, free_port
from xds_server.compiler import HmacKey, Secret, Settings, compile  # noqa: A004
from xds_server.compiler.inline import bootstrap
from xds_server.compiler.wire import socket_address
from xds_server.validate import find_envoy

KEY = b"0123456789abcdef0123456789abcdef"
OPTIONS = ("--use-dynamic-base-id", "--disable-hot-restart", "--concurrency", "1", "--drain-time-s", "1", "-l", "warn")
SECRETS: dict[str, Secret] = {"acme-key": HmacKey(KEY), "other-key": HmacKey(KEY[::-1])}


class RunningGateway:
    """`ports` of its listeners by name. `upstreams`: words of the document and the ports that stand for them.

    `zone`: where its Envoy stands.
    """

    def __init__(
        self,
        directory: Path,
        document: str,
        upstreams: Mapping[str, int],
        secrets: Mapping[str, Secret] = SECRETS,
        decisions: tuple[tuple[str, int], ...] = (),
        ports: Mapping[str, int] | None = None,
        zone: str | None = None,
    ) -> None:
        for word, port in upstreams.items():
            document = document.replace(word, str(port))
        gateway = decode(yaml.safe_load(document))
        self.ports = {name: free_port() for name in gateway.listeners} | dict(ports or {})
        settings = Settings(listener_ports=self.ports, decisions=decisions)
        self.compiled = compile(gateway, settings, secrets, strict=True)
        admin = free_port()
        config = directory / "bootstrap.pb"
        started = bootstrap(self.compiled.messages, admin=("127.0.0.1", admin))
        if zone is not None:
            stand_in(started, zone)
        config.write_bytes(started.SerializeToString())
        envoy = find_envoy()
        assert envoy is not None, "no Envoy is installed"
        self.log = directory / "envoy.log"
        self.process = Process(
            "envoy",
            [str(envoy), "--config-path", str(config), *OPTIONS],
            self.log,
            ready=lambda: ready(admin),
        )
        self.process.start()
        self.url = f"http://127.0.0.1:{next(iter(self.ports.values()))}"
        self.client = httpx.Client(base_url=self.url, timeout=20)
        self.admin = httpx.Client(base_url=f"http://127.0.0.1:{admin}", timeout=20)

    def request(self, path: str, method: str = "GET", token: str | None = None, **headers: str) -> httpx.Response:
        """Header names are written with `_` for `-`."""
        found = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            found["authorization"] = f"Bearer {token}"
        return self.client.request(method, path, headers=found)

    def raw(self, target: bytes, host: bytes = b"localhost") -> int:
        """The status of the answer to a request whose target and host are sent as they are."""
        with socket.create_connection(("127.0.0.1", next(iter(self.ports.values()))), timeout=20) as connection:
            connection.sendall(b"GET %s HTTP/1.1\r\nhost: %s\r\n\r\n" % (target, host))
            with HTTPResponse(connection) as answer:
                answer.begin()
                answer.read()  # hanging up earlier would make Envoy cut off the upstream, and the next request with it
                return answer.status

    def close(self) -> None:
        self.client.close()
        self.admin.close()
        self.process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def stand_in(started: Bootstrap, zone: str) -> None:
    """This Envoy knows its zone: docs/language/upstreams.md has the same as YAML."""
    local = started.static_resources.clusters.add(name="local")
    group = local.load_assignment.endpoints.add()
    local.load_assignment.cluster_name = "local"
    group.locality.zone = started.node.locality.zone = zone
    group.lb_endpoints.add().endpoint.address.CopyFrom(socket_address("127.0.0.1", 1))
    started.cluster_manager.local_cluster_name = "local"


def ready(admin: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{admin}/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    base = {"iss": "https://id.example.com/", "aud": "orders", "sub": "alice", "iat": now, "exp": now + 600}
    return {name: value for name, value in (base | more).items() if value is not None}
