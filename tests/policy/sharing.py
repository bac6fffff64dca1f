"""The service that shares out quotas, by itself on a real gRPC server, and its health as Envoy asks for it."""

import asyncio
from typing import Any, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from gateway.model import Gateway
from policy.metrics import Metrics
from policy.quota.service import NAME, RateLimitQuota
from policy.view import PolicyView, Views


class Sharing:
    """Serves on `port` inside of `async with`; on the same one again after `stop` and `start`."""

    def __init__(self, gateway: Gateway | None = None) -> None:
        self.views = Views(PolicyView.of(gateway) if gateway else None)
        self.registry = CollectorRegistry()
        self._metrics = Metrics(self.registry)
        self.port = 0

    def counted(self, result: str, tier: str = "") -> float:
        name, labels = "gw_ratelimit_decisions_total", {"result": result, "tier": tier}
        found = [s for m in self.registry.collect() for s in m.samples if s.name == name]
        return sum(s.value for s in found if labels.items() <= s.labels.items())

    async def start(self) -> None:
        self.quotas = RateLimitQuota(self.views, self._metrics)
        self.server: Any = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.server.add_generic_rpc_handlers((self.quotas.handler(),))
        checks: Any = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(checks, self.server)
        await checks.set(NAME, health_pb2.HealthCheckResponse.SERVING)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()
        self._beating = asyncio.create_task(self.quotas.run())

    async def stop(self) -> None:
        self._beating.cancel()
        await self.server.stop(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
