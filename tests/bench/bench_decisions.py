"""Decisions a second and a core: both RPCs, on both transports, counting in memory and in Valkey.

    python -m tests.bench.bench_decisions [--seconds 2] [--rounds 3]

The service, its stores and the client are processes of their own. Transports take turns, round by round, and what
counts is the ratio between them and decisions for each second of the service's own CPU time: the rest is the machine's
mood. Then each transport is given half of what it managed, evenly, for what a caller would wait. Never asserted.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import uvloop

from gwctl.up.postgres import Postgres
from gwctl.up.process import free_port
from gwctl.up.valkey import Valkey
from policy.server import DecisionsConfig, serve
from tests.bench.grpc_load import Load, Outcome
from tests.policy.facts_of import DOCUMENT, check_request, limit_request
from tests.policy.rig import PEPPER, Database

TRANSPORTS = ("grpcio", "fast")
CHECK = "/envoy.service.auth.v3.Authorization/Check"
LIMIT = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
CLIENTS = 64
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


def _ask(load: Load, seconds: float, answers: Any) -> None:
    answers.put(uvloop.run(load.run(seconds)))


def measure(load: Load, seconds: float, service: psutil.Process) -> Measured:
    answers = context.Queue()
    client = context.Process(target=_ask, args=(load, seconds, answers))
    client.start()
    while client.is_alive() and not _talks(load.port):
        time.sleep(0.02)
    before, began = sum(service.cpu_times()[:2]), time.perf_counter()
    outcome: Outcome = answers.get(timeout=seconds + 60)
    cpu = (sum(service.cpu_times()[:2]) - before) / (time.perf_counter() - began)
    client.join()
    if outcome.failed:
        print("   failed, by status:", outcome.failed)
    return Measured(outcome, cpu)


def _talks(port: int) -> bool:
    """Whether the client is there: its start is no part of what is measured."""
    return any(c.raddr and c.raddr.port == port for c in psutil.net_connections("tcp") if c.status == "ESTABLISHED")


@contextmanager
def running(database_url: str, valkey_url: str | None, transport: str) -> Iterator[tuple[int, psutil.Process]]:
    port = free_port()
    config = DecisionsConfig(f"127.0.0.1:{port}", database_url, {1: PEPPER}, valkey_url)
    process = context.Process(target=serve, args=(replace(config, transport=transport),))  # type: ignore[arg-type]
    process.start()
    time.sleep(3)
    try:
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
    limits = [limit_request({"tier": "free", "client": f"c{n}"}).SerializeToString() for n in range(CLIENTS)]
    return {
        "ShouldRateLimit": (LIMIT, limits),
        "Check, key in memory": (CHECK, [check_request({"x-api-key": key}).SerializeToString()]),
        "Check, verified token": (CHECK, [check_request(claims={"sub": "ann"}).SerializeToString()]),
    }


def compare(name: str, connections: int, path: str, messages: list[bytes], ports: Any, options: Any) -> None:
    """`ports`: by transport, where and which process."""
    found: dict[str, list[Measured]] = {transport: [] for transport in TRANSPORTS}
    for _ in range(options.rounds):
        for transport, (port, process) in ports.items():
            load = Load(port, path, messages, connections, 64 // connections)
            found[transport].append(measure(load, options.seconds, process))
    for transport, (port, process) in ports.items():
        best = statistics.median(measured.outcome.rate for measured in found[transport])
        core = statistics.median(measured.a_core for measured in found[transport])
        half = measure(Load(port, path, messages, connections, rate=best / 2), options.seconds, process).outcome
        print(
            f"{name:34} {transport:7} {best:8.0f}/s {core:8.0f}/s a core"
            f"   at half of it: p50 {half.quantile(0.5):6.2f} ms, p99 {half.quantile(0.99):6.2f} ms"
        )
    pairs = zip(found["grpcio"], found["fast"], strict=True)
    ratios = [fast.a_core / grpcio.a_core for grpcio, fast in pairs]
    print(f"{name:34} fast is {statistics.median(ratios):.1f} times grpcio, a core")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        postgres, valkey = Postgres(Path(directory) / "pg", fast=True), Valkey(Path(directory) / "valkey")
        postgres.start()
        valkey.start()
        try:
            key = asyncio.run(prepare(postgres.url))
            print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, 64 calls open, one service process")
            for store, url in (("memory", None), ("Valkey", valkey.url)):
                with running(postgres.url, url, "grpcio") as grpcio, running(postgres.url, url, "fast") as fast:
                    for name, (path, messages) in asked(key).items():
                        if store == "memory" or path == LIMIT:
                            for connections in (1, 4):
                                what = f"{name}, {store}, {connections} conn."
                                ports = {"grpcio": grpcio, "fast": fast}
                                compare(what, connections, path, messages, ports, options)
        finally:
            valkey.stop()
            postgres.stop()


if __name__ == "__main__":
    main()
