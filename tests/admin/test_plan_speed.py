"""A plan of 5,000 routes: under 3 s without Envoy and 8 s with, on a quiet machine (`make bench` says how much)."""

from tests.bench.bench_plan import measured
from tests.support.postgres import Databases

NOISE = 3
"""Others may be using the machine."""


async def test_a_large_gateway_is_planned_in_seconds(databases: Databases) -> None:
    without, with_envoy = await measured(databases.fresh(), 5_000, rounds=2)
    assert without < 3 * NOISE
    assert with_envoy < 8 * NOISE
