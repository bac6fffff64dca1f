"""The service that shares out quotas on a real gRPC server, with its health, who calls, and exact limits."""

import asyncio
from typing import Any, Self

import grpc
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from gateway.model import Gateway
from policy.metrics import Metrics
from policy.quota.service import NAME, RateLimitQuota
from policy.ratelimit.memory import MemoryStore
from policy.ratelimit.service import RateLimit
from policy.transport import grpcio
from policy.view import PolicyView, Views


class Sharing:
    """Serves on `port` inside of `async with`; on the same one again after `stop` and `start`."""

    def __init__(self, gateway: Gateway | None = None, *, serving: bool = True) -> None:
        self.views = Views(PolicyView.of(gateway) if gateway else None)
        self.registry = CollectorRegistry()
        self._metrics = Metrics(self.registry)
        self.port = 0
        self._serving = serving
        self.identity: dict[str, str] = {}
        """The metadata of every caller who is asked about."""

    def counted(self, result: str, tier: str = "") -> float:
        name, labels = "gw_ratelimit_decisions_total", {"result": result, "tier": tier}
        found = [s for m in self.registry.collect() for s in m.samples if s.name == name]
        return sum(s.value for s in found if labels.items() <= s.labels.items())

    async def start(self) -> None:
        self.quotas = RateLimitQuota(self.views, self._metrics, serving=self._serving)
        self.server: Any = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        check = grpc.unary_unary_rpc_method_handler(
            self.check,
            request_deserializer=CheckRequest.FromString,
            response_serializer=CheckResponse.SerializeToString,
        )
        checking = grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": check})
        exact = RateLimit(self.views, MemoryStore(), self._metrics)
        methods = grpcio.handlers((exact.method(),))
        self.server.add_generic_rpc_handlers((self.quotas.handler(), checking, *methods))
        self._checks: Any = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._checks, self.server)
        await self.serve(self._serving)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()
        self._beating = asyncio.create_task(self.quotas.run())

    async def serve(self, serving: bool) -> None:
        """As the one that has the lease, or has it no more."""
        states = health_pb2.HealthCheckResponse
        self.quotas.serve(serving)
        await self._checks.set(NAME, states.SERVING if serving else states.NOT_SERVING)

    async def check(self, request: CheckRequest, context: Any) -> CheckResponse:
        response = CheckResponse()
        response.status.code = 0
        response.dynamic_metadata.update(self.identity)
        return response

    @property
    def buckets(self) -> list[dict[str, str]]:
        return [dict(key) for key in self.quotas._board._buckets]

    async def stop(self) -> None:
        self._beating.cancel()
        await self.server.stop(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
