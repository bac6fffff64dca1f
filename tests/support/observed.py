"""A compiled gateway on a real Envoy that says in each answer which route it chose; asked over raw sockets, in bulk."""

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.model import Gateway
from gwctl.proving.runner import ready
from gwctl.proving.telling import telling
from gwctl.proving.wire import Answer, ask
from gwctl.up.process import Process, free_port
from xds_server.compiler import Settings, compile  # noqa: A004
from xds_server.compiler.inline import bootstrap
from xds_server.validate import find_envoy

OPTIONS = ("--use-dynamic-base-id", "--disable-hot-restart", "--concurrency", "1", "-l", "error")


class ObservedGateway:
    """The gateway's listeners on free ports of one Envoy."""

    def __init__(self, directory: Path, gateway: Gateway) -> None:
        self.ports = dict(zip(gateway.listeners, free_ports(len(gateway.listeners)), strict=True))
        compiled = compile(gateway, Settings(listener_ports=self.ports), {}, strict=True)
        assert compiled.problems == (), compiled.problems
        admin = free_port()
        config = directory / "observed.pb"
        messages = [telling(message) for message in compiled.messages]
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
        return ask(self.ports[listener], requests)

    def close(self) -> None:
        self.process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


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
