"""The ports of the decision services.

With `grpcio` one server has everything. With `fast` the unary methods, asked for every request, are on a server of our
own, and the streams (which it does not do) on grpcio at a second address; without one they are not served.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple, Protocol

from grpc_health.v1 import health_pb2, health_pb2_grpc

from policy.transport import grpcio
from policy.transport.fast import FastServer, Limits
from policy.transport.method import Method
from policy.transport.tls import TlsFiles

Transport = Literal["grpcio", "fast"]

IN_FLIGHT: Final = 4_096
"""RPCs at once; more are refused at once (RESOURCE_EXHAUSTED), which is kinder than answers that come too late."""


class Addresses(NamedTuple):
    """host:port. `streams` is for the fast transport only."""

    methods: str
    streams: str | None = None


class Servers:
    """`streams`: grpcio's generic handlers. `health`: a grpc_health servicer, whose `Watch` is a stream as well."""

    def __init__(
        self,
        methods: Iterable[Method[Any, Any]],
        streams: Iterable[Any],
        health: Any,
        *,
        addresses: Addresses,
        transport: Transport,
        tls: TlsFiles | None = None,
    ) -> None:
        self._methods = tuple(methods)
        self._streams = tuple(streams)
        self._health = health
        self._addresses = addresses
        self._tls = tls
        self._servers = self._fast() if transport == "fast" else [self._grpcio(addresses.methods, self._methods)]

    async def start(self) -> tuple[int, int]:
        """The ports of methods and of streams. Raises ValueError for what is no address, OSError for a taken one."""
        ports = [await server.start() for server in self._servers]
        return ports[0], ports[-1]

    async def stop(self, drain: float) -> None:
        """Nobody new; up to `drain` seconds for those who are being answered."""
        await asyncio.gather(*(server.stop(drain) for server in self._servers))

    def _fast(self) -> "list[_Server]":
        check: Method[Any, Any] = Method(
            "/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest, self._health.Check
        )
        unary = FastServer((*self._methods, check), Limits(in_flight=IN_FLIGHT))
        found: list[_Server] = [_Fast(unary, self._addresses.methods, self._tls)]
        if self._addresses.streams is not None:
            found.append(self._grpcio(self._addresses.streams, ()))
        return found

    def _grpcio(self, address: str, methods: Iterable[Method[Any, Any]]) -> "_Server":
        server = grpcio.server(IN_FLIGHT)
        server.add_generic_rpc_handlers((*grpcio.handlers(methods), *self._streams))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        return _Grpcio(server, address, self._tls)


class _Server(Protocol):
    async def start(self) -> int: ...

    async def stop(self, drain: float) -> None: ...


class _Fast(NamedTuple):
    server: FastServer
    address: str
    tls: TlsFiles | None

    async def start(self) -> int:
        return await self.server.start(*host_and_port(self.address), self.tls)

    async def stop(self, drain: float) -> None:
        await self.server.stop(drain)


class _Grpcio(NamedTuple):
    server: Any
    address: str
    tls: TlsFiles | None

    async def start(self) -> int:
        port = grpcio.bind(self.server, self.address, self.tls)
        await self.server.start()
        return port

    async def stop(self, drain: float) -> None:
        await self.server.stop(drain)


def host_and_port(address: str) -> tuple[str, int]:
    """Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"an address is written host:port, not {address!r}")
    return host.strip("[]"), int(port)
