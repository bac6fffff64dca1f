"""Requests a second of the decision service, both RPCs, on real PostgreSQL and Valkey.

    python -m tests.bench.bench_decisions

The callers share the machine and this process's interpreter with nobody: they are children, as is the service. Figures
are to be read, never asserted.
"""

import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from envoy.service.auth.v3 import external_auth_pb2_grpc
from envoy.service.ratelimit.v3 import rls_pb2_grpc

from gwctl.up.postgres import Postgres
from gwctl.up.process import free_port
from gwctl.up.valkey import Valkey
from policy.server import DecisionsConfig, serve
from tests.policy.facts_of import DOCUMENT, check_request, limit_request
from tests.policy.rig import PEPPER, Database

SECONDS = 4.0
AT_ONCE = 32
WIDE = DOCUMENT | {"tiers": {"free": {"rate_limits": [{"limit": "1000000000/hour"}, {"limit": "1000000000/day"}]}}}


async def measure(name: str, call: Callable[[int], Awaitable[Any]]) -> None:
    took: list[float] = []
    end = time.monotonic() + SECONDS

    async def caller(number: int) -> None:
        while time.monotonic() < end:
            before = time.monotonic()
            await call(number)
            took.append(time.monotonic() - before)

    await asyncio.gather(*(caller(n) for n in range(AT_ONCE)))
    took.sort()
    p50, p99 = took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000
    print(f"{name:34} {len(took) / SECONDS:8.0f} requests/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms")


def _call(port: int, key: str) -> None:
    async def run() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            limits, authorization = (
                rls_pb2_grpc.RateLimitServiceStub(channel),
                external_auth_pb2_grpc.AuthorizationStub(channel),
            )
            with_key, with_token = check_request({"x-api-key": key}), check_request(claims={"sub": "ann"})
            each = [limit_request({"tier": "free", "client": f"c{n}"}) for n in range(AT_ONCE)]
            await measure("Check, API key in memory", lambda _: authorization.Check(with_key))
            await measure("Check, verified token", lambda _: authorization.Check(with_token))
            await measure("ShouldRateLimit, two limits", lambda n: limits.ShouldRateLimit(each[n]))

    asyncio.run(run())


async def prepare(url: str) -> str:
    database = Database(url)
    await database.migrate()
    await database.apply(WIDE)
    key = await database.make_key("free")
    await database.close()
    return key.text


def main() -> None:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        postgres, valkey = Postgres(Path(directory) / "pg", fast=True), Valkey(Path(directory) / "valkey")
        postgres.start()
        valkey.start()
        key, port = asyncio.run(prepare(postgres.url)), free_port()
        config = DecisionsConfig(f"127.0.0.1:{port}", postgres.url, {1: PEPPER}, valkey.url)
        service = context.Process(target=serve, args=(config,))
        service.start()
        try:
            print(f"{os.cpu_count()} cores, one process, {AT_ONCE} requests at once")
            time.sleep(3)
            caller = context.Process(target=_call, args=(port, key))
            caller.start()
            caller.join()
        finally:
            service.terminate()
            service.join()
            valkey.stop()
            postgres.stop()


if __name__ == "__main__":
    main()
