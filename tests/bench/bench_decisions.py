"""Decisions a second and a core: both RPCs, on both transports, counting in memory and in Valkey.

    python -m tests.bench.bench_decisions [--seconds 0.8] [--rounds 2]

The service, its stores and the client are processes of their own. Transports take turns, round by round, and what
counts is the ratio between them and decisions for each second of the service's own CPU time: the rest is the machine's
mood. Then the fast one is given half of what it managed, evenly, for what a caller would wait. Never asserted. It takes
less than two minutes.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import psutil
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gwctl.up.postgres import Postgres
from gwctl.up.process import free_port
from gwctl.up.valkey import Valkey
from policy.server import DecisionsConfig, serve
from tests.bench.grpc_load import Load, Outcome
from tests.policy.facts_of import DOCUMENT, ROUTE, check_request, limit_request
from tests.policy.rig import PEPPER, Database

TRANSPORTS = ("grpcio", "fast")
CHECK = "/envoy.service.auth.v3.Authorization/Check"
LIMIT = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
CLIENTS = 64
WARM_UP = 0.3
WIDE = DOCUMENT | {"tiers": {"free": {"rate_limits": [{"limit": "1000000000/hour"}]}}}
context = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Measured:
    """`cpu`: seconds of the service's CPU time that a second of its decisions took."""

    outcome: Outcome
    cpu: float

    @property
    def a_core(self) -> float:
        return self.outcome.rate / self.cpu


def _ask(load: Load, seconds: float) -> Outcome:
    return uvloop.run(load.run(seconds, WARM_UP))


def measure(client: Executor, load: Load, seconds: float, service: psutil.Process) -> Measured:
    before, began = sum(service.cpu_times()[:2]), time.perf_counter()
    outcome = client.submit(_ask, load, seconds).result(timeout=seconds + 60)
    cpu = (sum(service.cpu_times()[:2]) - before) / (time.perf_counter() - began)
    if outcome.failed:
        print("   failed, by status:", outcome.failed)
    return Measured(outcome, cpu)


def _serving(port: int) -> None:
    """Until the service has its view of the gateway: a busy machine takes seconds to start one."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            answer = check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=30)
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            time.sleep(0.05)
    raise TimeoutError("the service did not get its view of the gateway")


@contextmanager
def running(database_url: str, valkey_url: str | None, transport: str) -> Iterator[tuple[int, psutil.Process]]:
    port = free_port()
    config = DecisionsConfig(f"127.0.0.1:{port}", database_url, {1: PEPPER}, valkey_url)
    process = context.Process(target=serve, args=(replace(config, transport=transport),))  # type: ignore[arg-type]
    process.start()
    try:
        _serving(port)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.join()


async def prepare(url: str) -> str:
    database = Database(url)
    await database.migrate()
    await database.apply(WIDE)
    key = await database.make_key("free")
    await database.close()
    return key.text


def asked(key: str) -> dict[str, tuple[str, list[bytes]]]:
    """A Check that counts asks the store too, as routes with `decision: combined` have it."""
    limits = [limit_request({"tier": "free", "client": f"c{n}"}).SerializeToString() for n in range(CLIENTS)]
    check = check_request({"x-api-key": key})
    counting = check_request({"x-api-key": key}, settings=ROUTE | {"limits": "here"})
    return {
        "ShouldRateLimit": (LIMIT, limits),
        "Check": (CHECK, [check.SerializeToString()]),
        "Check that counts": (CHECK, [counting.SerializeToString()]),
    }


def compare(
    client: Executor, name: str, connections: int, path: str, messages: list[bytes], ports: Any, options: Any
) -> None:
    """`ports`: by transport, where and which process."""
    found: dict[str, list[Measured]] = {transport: [] for transport in TRANSPORTS}
    for _ in range(options.rounds):
        for transport, (port, process) in ports.items():
            load = Load(port, path, messages, connections, 64 // connections)
            found[transport].append(measure(client, load, options.seconds, process))
    core = {of: statistics.median(measured.a_core for measured in found[of]) for of in TRANSPORTS}
    port, process = ports["fast"]
    best = statistics.median(measured.outcome.rate for measured in found["fast"])
    load = Load(port, path, messages, connections, rate=best / 2)
    half = measure(client, load, options.seconds, process).outcome
    print(
        f"{name:36} a CPU second: grpcio {core['grpcio']:6.0f}, fast {core['fast']:6.0f} ({_ratio(found):.1f} times)"
        f"; fast at {best / 2:5.0f}/s: p50 {half.quantile(0.5):5.2f} ms, p99 {half.quantile(0.99):6.2f} ms",
        flush=True,
    )


def _ratio(found: dict[str, list[Measured]]) -> float:
    pairs = zip(found["grpcio"], found["fast"], strict=True)
    return statistics.median(fast.a_core / grpcio.a_core for grpcio, fast in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.8)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        postgres, valkey = Postgres(Path(directory) / "pg", fast=True), Valkey(Path(directory) / "valkey")
        postgres.start()
        valkey.start()
        try:
            key = asyncio.run(prepare(postgres.url))
            print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, 64 calls open, one service process")
            with ProcessPoolExecutor(1, mp_context=context) as client:
                for store, url in (("memory", None), ("Valkey", valkey.url)):
                    with running(postgres.url, url, "grpcio") as grpcio, running(postgres.url, url, "fast") as fast:
                        ports = {"grpcio": grpcio, "fast": fast}
                        for name, (path, messages) in asked(key).items():
                            for connections in (1, 4) if store == "memory" or name != "Check" else ():
                                what = f"{name}, {store}, {connections} conn."
                                compare(client, what, connections, path, messages, ports, options)
        finally:
            valkey.stop()
            postgres.stop()


if __name__ == "__main__":
    main()
