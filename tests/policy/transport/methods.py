"""Methods with which a transport can be tried."""

import asyncio
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import BytesValue, StringValue, UInt32Value
from grpc_health.v1 import health

from policy import rpc
from policy.transport.method import Call, Method
from policy.transport.servers import Addresses, Servers

SERVICE = "test.Methods"


class Methods:
    """`begun`, `ended`, `cancelled`: what was asked of Sleep."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.metadata: Any = ()
        self.remaining: float | None = None

    def all(self) -> list[Method[Any, Any]]:
        return [
            Method(f"/{SERVICE}/Echo", BytesValue, self.echo),
            Method(f"/{SERVICE}/Sleep", StringValue, self.sleep),
            Method(f"/{SERVICE}/Large", UInt32Value, self.large),
            Method(f"/{SERVICE}/Fail", StringValue, self.fail),
            Method(f"/{SERVICE}/Break", StringValue, self.break_),
        ]

    async def echo(self, request: BytesValue, call: Call) -> BytesValue:
        self.metadata = call.invocation_metadata()
        self.remaining = call.time_remaining()
        return request

    async def sleep(self, request: StringValue, call: Call) -> StringValue:
        return await rpc.guarded(call, lambda _: self._sleep(request), 60)

    async def _sleep(self, request: StringValue) -> StringValue:
        """Seconds, and whatever else tells it from others."""
        self.begun.append(request.value)
        try:
            async with asyncio.timeout(60):  # as decisions do; it wants to know its task
                await asyncio.sleep(float(request.value.split()[0]))
        except asyncio.CancelledError:
            self.cancelled.append(request.value)
            raise
        self.ended.append(request.value)
        return request

    async def large(self, request: UInt32Value, call: Call) -> BytesValue:
        return BytesValue(value=b"x" * request.value)

    async def fail(self, request: StringValue, call: Call) -> StringValue:
        await call.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, request.value)

    async def break_(self, request: StringValue, call: Call) -> StringValue:
        async def decide(budget: float) -> StringValue:
            raise RuntimeError(f"secret {request.value} {budget}")

        return await rpc.guarded(call, decide, 60)


class Running:
    """A server of those methods on a port of its own."""

    def __init__(self, transport: Any, **more: Any) -> None:
        self.transport = transport
        self.methods = Methods()
        self.health: Any = health.aio.HealthServicer()
        self.servers = Servers(
            self.methods.all(), (), self.health, addresses=Addresses("127.0.0.1:0"), transport=transport, **more
        )
        self.port = 0

    async def __aenter__(self) -> "Running":
        self.port, _ = await self.servers.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.servers.stop(0)
