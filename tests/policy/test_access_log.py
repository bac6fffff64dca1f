"""What Envoys tell of their requests: counted, written as totals, and read from PostgreSQL."""

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from envoy.service.accesslog.v3 import als_pb2, als_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from db import engine as engines
from db import traffic
from db.histogram import ERROR, bin_of, quantile
from policy.accesslog.tally import Entry, Tally, outcome

from .rig import Database, decisions, until


@given(st.lists(st.floats(1, 600_000), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_right_within_the_error(values: list[float], share: float) -> None:
    found = quantile(Counter(map(bin_of, values)), share)
    exact = sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]
    assert found is not None
    assert abs(found - exact) <= exact * (ERROR + 1e-9)


@given(st.lists(st.lists(st.floats(0, 600_000)), min_size=2))
def test_merging_is_adding(parts: list[list[float]]) -> None:
    merged = sum((Counter(map(bin_of, part)) for part in parts), Counter())
    assert merged == Counter(bin_of(value) for part in parts for value in part)


@pytest.mark.parametrize(
    ("status", "upstream", "expected"),
    [
        (101, True, "success"),
        (200, True, "success"),
        (302, False, "redirect"),
        (401, False, "client_error"),
        (429, False, "limited"),
        (500, True, "upstream_error"),
        (503, False, "gateway_error"),
        (0, False, "gone"),
    ],
)
def test_outcomes(status: int, upstream: bool, expected: str) -> None:
    assert outcome(status, upstream=upstream) == expected


def test_what_was_counted_during_a_write_is_written_again() -> None:
    tally, one = Tally(), Entry("m/r", "", 200, True, 5.0)
    tally.add("a", [one], 100)
    taken = tally.take()
    tally.add("a", [one], 101)
    tally.wrote(taken, 120)
    [cell] = tally.take().values()
    assert cell.requests == 2
    tally.wrote(tally.take(), 120)
    assert not tally.take()
    assert not tally._cells


def test_too_many_cells_are_lost_and_counted() -> None:
    tally = Tally(most=1)
    tally.add("a", [Entry(f"m/{n}", "", 200, True, 5.0) for n in range(3)], 100)
    assert tally.lost == 2


def logged(status: int, details: str, tier: str) -> Any:
    message = als_pb2.StreamAccessLogsMessage()
    entry = message.http_logs.log_entry.add()
    entry.common_properties.route_name = "m/r"
    entry.common_properties.duration.nanos = 20_000_000
    entry.common_properties.metadata.filter_metadata["envoy.filters.http.ext_authz"].update({"tier": tier})
    entry.response.response_code.value = status
    entry.response.response_code_details = details
    entry.request.path = "/secret?key=hidden"
    return message


async def test_streams_are_counted_exactly(postgres: Any) -> None:
    database = Database(postgres.url)
    await database.migrate()
    service = await decisions(database.url, None)
    engine = engines.connect(postgres.url)
    said = [(200, "via_upstream")] * 900 + [(500, "via_upstream")] * 60 + [(503, "no_healthy_upstream")] * 40
    random.Random(1).shuffle(said)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
            call = als_pb2_grpc.AccessLogServiceStub(channel).StreamAccessLogs()
            first = als_pb2.StreamAccessLogsMessage()
            first.identifier.node.id = "envoy-1"
            await call.write(first)
            for status, details in said:
                await call.write(logged(status, details, "free"))

            now = datetime.now(UTC)
            since, before = now - timedelta(minutes=5), now + timedelta(minutes=5)

            async def counted(nodes: tuple[str, ...], *, others: bool = False) -> traffic.Traffic:
                await service._access_log.flush()
                return await engines.run(engine, lambda c: traffic.between(c, since, before, nodes, others=others))

            async def all_there() -> bool:
                return (await counted(("envoy-1",))).requests == len(said)

            await until(all_there)
            found = await counted(("envoy-1",))
            assert (found.counts["success"], found.counts["upstream_error"]) == (900, 60)
            assert (found.counts["gateway_error"], found.error_rate) == (40, 10.0)
            assert found.latency(0.99) == pytest.approx(20, rel=ERROR)
            assert (await counted(("envoy-1",), others=True)).requests == 0
            named = await engines.run(engine, lambda c: traffic.by(c, "tier", since, before, 10))
            assert {name: one.requests for name, one in named.items()} == {"free": 1000}
            assert (await engines.run(engine, lambda c: traffic.rates(c, ["m/r"])))["m/r"] == pytest.approx(1000 / 600)
            stopping = asyncio.create_task(service.stop(5))
            async with asyncio.timeout(10):
                await stopping
    finally:
        await engines.close(engine)
        await database.close()
