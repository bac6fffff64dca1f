"""R35: whatever is sent to the decision service, it fails no call by itself, does not grow, and decides the rest.

`TOLLHOUSE_MESSAGES` is how many go to each method; `make fuzz` sends 50,000 to every one.
"""

import asyncio
import os
import random

import grpc
import psutil
import pytest
from google.rpc import code_pb2

from policy.authz import keys
from tests.support.mutate_messages import mutated

from .facts_of import DOCUMENT, check_request, limit_request
from .rig import PEPPER, Client, Database, decisions

MESSAGES = int(os.environ.get("TOLLHOUSE_MESSAGES", "2000"))
AT_ONCE = 50
GROWTH = 96 * 1024 * 1024

# UNAVAILABLE: a route that names what the revision does not have cannot be decided, nor can too many invented keys.
ALLOWED = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE}

SEEDS = {
    "/envoy.service.auth.v3.Authorization/Check": (
        check_request(),
        check_request({"x-api-key": keys.mint(PEPPER).text}),
        check_request({"authorization": "Bearer x"}, claims={"sub": "u", "iss": "i"}),
        check_request(raw=[("x-api-key", b"\xff")]),
    ),
    "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit": (
        limit_request({"tier": "free", "client": "c"}),
        limit_request({"tier": "gold", "client": "d"}),
    ),
}


@pytest.mark.parametrize("method", SEEDS)
async def test_r35_fuzzed_calls(postgres, valkey, method):
    database = Database(postgres.url)
    await database.migrate()
    await database.apply(DOCUMENT)
    service = await decisions(database.url, valkey.url)
    await asyncio.wait_for(service.ready(), 15)
    client = Client(service.port)
    try:
        await campaign(service.port, method, MESSAGES // 5)  # caches and pools are filled
        memory, tasks = psutil.Process().memory_info().rss, len(asyncio.all_tasks())
        await campaign(service.port, method, MESSAGES - MESSAGES // 5)
        assert (await client.check(check_request())).status.code == code_pb2.UNAUTHENTICATED
        assert (await client.limit(limit_request({"tier": "free", "client": "healthy"}))).overall_code
        assert psutil.Process().memory_info().rss - memory < GROWTH
        assert len(asyncio.all_tasks()) <= tasks + 5
    finally:
        await client.close()
        await service.stop(0)
        await database.close()


async def campaign(port: int, method: str, count: int) -> None:
    chance = random.Random(f"{method} {count}")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(method)

        async def ask() -> grpc.StatusCode:
            """INVALID_ARGUMENT for what cannot be parsed: it never gets to the service, the answer is gRPC's."""
            message = chance.choice(SEEDS[method])
            copy = type(message)()
            copy.CopyFrom(message)
            asked = call(mutated(chance, copy), timeout=20)
            try:
                await asked
            except grpc.aio.AioRpcError as error:
                unreadable = "google.protobuf.message.DecodeError" in (error.details() or "")
                return grpc.StatusCode.INVALID_ARGUMENT if unreadable else error.code()
            return grpc.StatusCode.OK

        for _ in range(count // AT_ONCE):
            assert set(await asyncio.gather(*(ask() for _ in range(AT_ONCE)))) <= ALLOWED
