"""A decision service on real PostgreSQL and Valkey, and a client that asks it as Envoy does."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import grpc
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from envoy.service.ratelimit.v3 import rls_pb2, rls_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from db import engine as engines
from db import keys as key_rows
from db import migrate, revisions, rollouts
from db.rows import ObjectRow
from gateway.document import SINGLE
from policy.authz import keys
from policy.server import Decisions, DecisionsConfig, start

PEPPER = b"a pepper of thirty-two bytes ...."


class Client:
    """What Envoy's filters and health checks do."""

    def __init__(self, port: int) -> None:
        patience = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=patience)
        self._limits = rls_pb2_grpc.RateLimitServiceStub(self._channel)
        self._authorization = external_auth_pb2_grpc.AuthorizationStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def check(self, request: Any) -> external_auth_pb2.CheckResponse:
        return await self._authorization.Check(request, timeout=5)

    async def limit(self, request: Any) -> rls_pb2.RateLimitResponse:
        return await self._limits.ShouldRateLimit(request, timeout=5)

    async def health(self, service: str = "") -> int:
        return (await self._health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)).status

    async def close(self) -> None:
        await self._channel.close()


async def failure(call: Any) -> grpc.StatusCode | None:
    """The gRPC status that an RPC failed with, None if it did not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return None


async def until(condition: Callable[[], Any], seconds: float = 15) -> None:
    """Waits for something to come about; the condition may be a coroutine function."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.02)


class Database:
    """What the control API does to the database, without it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = engines.connect(url)

    async def migrate(self) -> None:
        await migrate.upgrade(self.url)

    async def apply(self, document: dict[str, Any]) -> int:
        row = await revisions.commit(
            self._engine,
            expected_revision=None,
            objects=list(_rows(document)),
            author="test",
            message="",
            digest=str(hash(json.dumps(document))),
        )
        return row.number

    async def rolled_out(self) -> None:
        """All Envoys have the revision that was on its way."""

        async def work(connection: Any) -> None:
            row = await rollouts.current(connection)
            assert row is not None
            await rollouts.move(connection, row, "test", "done", {"state": "done"})

        await engines.run(self._engine, work)

    async def make_key(self, tier: str, expires_at: datetime | None = None) -> keys.MintedKey:
        minted = keys.mint(PEPPER)

        async def work(connection: Any) -> None:
            consumer = await key_rows.create_consumer(connection, name="test", tier=tier)
            await key_rows.create(
                connection,
                id=minted.id,
                consumer=consumer.id,
                name="k",
                prefix=minted.prefix,
                digest=minted.digest,
                pepper_version=1,
                scopes=("a:read",),
                expires_at=expires_at,
            )

        await engines.run(self._engine, work)
        return minted

    async def revoke(self, key_id: str) -> None:
        await engines.run(self._engine, lambda connection: key_rows.revoke(connection, key_id))

    async def last_used(self, key_id: str) -> datetime | None:
        row = await engines.run(self._engine, lambda connection: key_rows.get(connection, key_id))
        assert row is not None
        return row.last_used_at

    async def close(self) -> None:
        await engines.close(self._engine)


def _rows(document: dict[str, Any]) -> Any:
    for kind, body in document.items():
        if kind == "version":
            continue
        for name, part in [(kind, body)] if kind in SINGLE else body.items():
            yield ObjectRow(kind, name, "test", {}, part, "test.yaml")


async def decisions(database_url: str, valkey_url: str | None, **changes: Any) -> Decisions:
    config = {"address": "127.0.0.1:0", "database_url": database_url, "peppers": {1: PEPPER}, "valkey_url": valkey_url}
    return await start(DecisionsConfig(**config | changes))
