"""A compiled gateway on a real Envoy that says in each answer which route it chose; asked over raw sockets, in bulk."""

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutation as Mutation
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.http.header_mutation.v3.header_mutation_pb2 import HeaderMutation, Mutations
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from google.protobuf.message import Message

from gateway.model import Gateway
from gwctl.up.process import Process, free_port
from xds_server.compiler import Settings, compile  # noqa: A004
from xds_server.compiler.inline import bootstrap
from xds_server.compiler.wire import pack
from xds_server.validate import find_envoy

TOLD = {"x-seen-route": "%ROUTE_NAME%", "x-seen-details": "%RESPONSE_CODE_DETAILS%", "x-seen-path": "%REQ(:PATH)%"}
OPTIONS = ("--use-dynamic-base-id", "--disable-hot-restart", "--concurrency", "1", "-l", "error")
WIDTH = 24  # so many connections with one request each: Envoy takes its time over pipelined ones

Answer = tuple[int, dict[bytes, bytes]]
"""Status and headers, names in lower case."""


class ObservedGateway:
    """The gateway's listeners on free ports of one Envoy."""

    def __init__(self, directory: Path, gateway: Gateway) -> None:
        self.ports = dict(zip(gateway.listeners, free_ports(len(gateway.listeners)), strict=True))
        compiled = compile(gateway, Settings(listener_ports=self.ports), {}, strict=True)
        assert compiled.problems == (), compiled.problems
        admin = free_port()
        config = directory / "observed.pb"
        messages = [observed(message) for message in compiled.messages]
        config.write_bytes(bootstrap(messages, admin=("127.0.0.1", admin)).SerializeToString())
        envoy = find_envoy()
        assert envoy is not None, "no Envoy is installed"
        self.process = Process(
            "envoy",
            [str(envoy), "--config-path", str(config), *OPTIONS],
            directory / "observed.log",
            ready=lambda: ready(admin),
        )
        self.process.start()

    def ask(self, listener: str, requests: Sequence[bytes]) -> Iterator[Answer]:
        """The answer to each request, in order."""
        connections = [Connection(self.ports[listener]) for _ in range(min(WIDTH, len(requests)))]
        try:
            for start in range(0, len(requests), WIDTH):
                together = list(zip(connections, requests[start : start + WIDTH], strict=False))
                for connection, request in together:
                    connection.send(request)
                for connection, request in together:
                    yield connection.answer(head_only=request.startswith(b"HEAD "))
        finally:
            for connection in connections:
                connection.close()

    def close(self) -> None:
        self.process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Connection:
    """A kept-alive HTTP/1.1 connection; made anew where Envoy has ended it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket = self.connected()
        self.ended = False

    def connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def send(self, request: bytes) -> None:
        if self.ended:
            self.socket.close()
            self.socket, self.ended = self.connected(), False
        self.socket.sendall(request)

    def answer(self, *, head_only: bool) -> Answer:
        buffer = b""
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            buffer += self.more()
        status, *lines = buffer[:end].split(b"\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
        whole = end + 4 + (0 if head_only else int(headers.get(b"content-length", b"0")))
        while len(buffer) < whole:
            buffer += self.more()
        self.ended = headers.get(b"connection") == b"close"
        return int(status.split(b" ", 2)[1]), headers

    def more(self) -> bytes:
        found = self.socket.recv(65536)
        assert found, "the connection ended without an answer"
        return found

    def close(self) -> None:
        self.socket.close()


def observed(message: Message) -> Message:
    """A listener with a first filter that writes what was seen into the answer."""
    if isinstance(message, Listener):
        for chain in message.filter_chains:
            manager = HttpConnectionManager()
            manager.ParseFromString(chain.filters[0].typed_config.value)
            manager.http_filters.insert(0, teller())
            manager.ClearField("access_log")
            chain.filters[0].typed_config.CopyFrom(pack(manager))
    return message


def teller() -> HttpFilter:
    tell = HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
    mutations = [
        Mutation(append=HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=tell))
        for name, value in TOLD.items()
    ]
    config = HeaderMutation(mutations=Mutations(response_mutations=mutations))
    return HttpFilter(name="test/teller", typed_config=pack(config))


def free_ports(count: int) -> list[int]:
    """Free ports that differ from each other."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def ready(admin: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{admin}/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False
