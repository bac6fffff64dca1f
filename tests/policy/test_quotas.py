"""Quotas between Envoys and the service, told over gRPC; and which of several services it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import yaml
from envoy.service.rate_limit_quota.v3 import rlqs_pb2, rlqs_pb2_grpc
from prometheus_client import CollectorRegistry

from gateway.model import Gateway, decode
from policy.metrics import Metrics
from policy.quota import message
from policy.quota.board import Board, Told, Usage
from policy.quota.lease import Lease
from policy.quota.service import NAME
from policy.quota.shares import Share
from policy.view import PolicyView

from .facts_of import DOCUMENT
from .rig import Client, Database, decisions, failure, until
from .sharing import Sharing

LIMITS = """
version: 1
listeners: {http: {port: 8080}}
api_keys: {partner: {}}
tiers: {free: {rate_limits: [{limit: RATE, mode: quota}]}}
modules:
  m: {tier: free, listener: http, authentication: {any_of: [partner]}, routes: {r: {match: {path: {prefix: /}}, respond: {status: 200}}}}
"""  # noqa: E501
ALICE = {"tier": "free", "client": "=alice"}
KEY = tuple(sorted(ALICE.items()))


def gateway(rate: str = "50/second") -> Gateway:
    return decode(yaml.safe_load(LIMITS.replace("RATE", rate)))


class Envoy:
    """What Envoy does on a stream: reports, and takes the newest assignment."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def reports(self, bucket: dict[str, str], allowed: int, denied: int = 0, elapsed: int = 0) -> None:
        usages = rlqs_pb2.RateLimitQuotaUsageReports
        usage = usages.BucketQuotaUsage(num_requests_allowed=allowed, num_requests_denied=denied)
        usage.bucket_id.bucket.update(bucket)
        usage.time_elapsed.seconds = elapsed
        await self._call.write(usages(domain="tollhouse", bucket_quota_usages=[usage]))

    async def told(self) -> Any:
        async with asyncio.timeout(5):
            answer = await self._call.read()
        [action] = answer.bucket_action
        return action

    async def tokens(self) -> int:
        assignment = (await self.told()).quota_assignment_action
        assert assignment.assignment_time_to_live.seconds == 15
        return int(assignment.rate_limit_strategy.token_bucket.tokens_per_fill.value)


@asynccontextmanager
async def stream(port: int) -> AsyncIterator[Envoy]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = rlqs_pb2_grpc.RateLimitQuotaServiceStub(channel).StreamRateLimitQuotas()
        yield Envoy(call)
        call.cancel()


async def test_who_comes_and_goes_is_told_to_the_others_unasked() -> None:
    async with Sharing(gateway()) as sharing:
        async with stream(sharing.port) as first:
            await first.reports(ALICE, 1)
            assert await first.tokens() == 100
            async with stream(sharing.port) as second:
                await second.reports(ALICE, 1)
                assert (await first.tokens(), await second.tokens()) == (50, 50)
            assert await first.tokens() == 75
            await first.reports(ALICE, 30, 4)
            assert await first.tokens() == 75
        assert sharing.counted("ok", tier="free") == 32
        assert sharing.counted("over_limit", tier="free") == 4


async def test_another_limit_is_told_at_once_and_unknown_buckets_are_passed_over() -> None:
    async with Sharing(gateway()) as sharing, stream(sharing.port) as envoy:
        await envoy.reports({"tier": "nobody's"}, 1)
        await envoy.reports({"something": "else"}, 1)
        await envoy.reports(ALICE, 1)
        assert await envoy.tokens() == 100
        sharing.views.current = PolicyView.of(gateway("200/second"))
        assert await envoy.tokens() == 200
        sharing.views.current = PolicyView.of(gateway("60/minute").model_copy(update={"tiers": {}}))
        assert (await envoy.told()).HasField("abandon_action")
        assert sharing.buckets == []


def test_a_limit_that_changes_only_its_seconds_changes_what_envoy_compares() -> None:
    """Envoy tells a token bucket by its numbers of tokens and the nanoseconds of its interval."""
    limit = PolicyView.of(gateway("60/minute")).quotas["tier", "free"]
    daily = PolicyView.of(gateway("60/day")).quotas["tier", "free"]
    first, second = (message.strategy(one, Share(100, 1)).token_bucket for one in (limit, daily))
    assert (first.fill_interval.seconds, second.fill_interval.seconds) == (100, 144_000)
    assert first.fill_interval.nanos != second.fill_interval.nanos
    assert message.strategy(limit, Share(0, 0)).blanket_rule == 1, "a bucket without tokens would be one of one"


def test_a_silent_envoy_loses_its_share_and_an_idle_one_its_bucket() -> None:
    board: Board[str] = Board()
    board.changed(PolicyView.of(gateway()).quotas, 0)
    limit = board.limits["tier", "free"]
    for envoy in ("a", "b"):
        board.report(envoy, [Usage(KEY, 1, 0, 0)], 0)
    for now in (5, 10):
        board.report("a", [Usage(KEY, 100, 0, 5)], now)
    told = board.tick(15)
    assert told == {"a": {KEY: Told(limit, Share(100, 50))}}
    for now in (15, 20):
        board.report("a", [Usage(KEY, 0, 0, 5)], now)
    assert board.report("a", [Usage(KEY, 0, 0, 5)], 25) == {"a": {KEY: Told(limit, None)}}
    assert len(board) == 0


async def test_one_of_two_services_shares_out_and_the_other_takes_over(postgres, valkey) -> None:
    database = Database(postgres.url)
    await database.migrate()
    await database.apply(DOCUMENT)
    first = await decisions(postgres.url, valkey.url)
    second = await decisions(postgres.url, valkey.url)
    clients = {first: Client(first.port), second: Client(second.port)}

    async def serving() -> list[Any]:
        return [service for service, client in clients.items() if await client.health(NAME) == 1]

    async def one_serves() -> bool:
        return len(await serving()) == 1

    try:
        await until(one_serves)
        [owner] = await serving()
        [other] = set(clients) - {owner}
        async with stream(other.port) as refused:
            await refused.reports(ALICE, 1)
            assert await failure(refused.told()) == grpc.StatusCode.UNAVAILABLE
        async with stream(owner.port) as envoy:
            await envoy.reports(ALICE, 1)
            await owner.stop(5)
            assert await failure(envoy.told()) == grpc.StatusCode.UNAVAILABLE, "a drain does not wait for its streams"
        await until(lambda: clients[other].health(NAME))

        async def the_other_serves() -> bool:
            return await clients[other].health(NAME) == 1

        await until(the_other_serves)
    finally:
        for service, client in clients.items():
            await client.close()
            await service.stop(0)
        await database.close()


async def test_a_lease_that_cannot_be_renewed_is_given_up_before_it_ends(valkey) -> None:
    heard: list[bool] = []

    async def changed(held: bool) -> None:
        heard.append(held)

    lease = Lease(valkey.url, changed, length=1.0, every=0.2)
    running = asyncio.create_task(lease.run())
    try:
        await until(lambda: heard == [True])
        valkey.kill9()
        lost = asyncio.get_running_loop().time()
        await until(lambda: heard == [True, False])
        assert asyncio.get_running_loop().time() - lost < 1.0
        valkey.start()
        await until(lambda: heard == [True, False, True])
    finally:
        running.cancel()
        await lease.close()


def test_metrics_of_quotas_are_those_of_limits() -> None:
    registry = CollectorRegistry()
    Metrics(registry).quota(PolicyView.of(gateway()).quotas["tier", "free"], 3, 2)
    labels = {"rule": "tier", "tier": "free", "result": "over_limit"}
    assert registry.get_sample_value("gw_ratelimit_decisions_total", labels) == 2
