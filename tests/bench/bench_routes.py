"""Large route tables: compiling them, changing one route, searching them in Envoy, and a change on its way to Envoy.

    python -m tests.bench routes

Figures to read, never asserted. `--concurrency 1`, and Envoy's own CPU a request is the steadier figure.
"""

import asyncio
import gc
import logging
import multiprocessing
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import structlog

from gateway.model import decode
from gwctl.up.process import free_port
from tests.ads.real_envoy import running
from tests.bench.load import load
from tests.bench.throughput import measured
from tests.support.gateway import until
from xds_server import compiler
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.compiler.inline import bootstrap
from xds_server.compiler.memo import Memo
from xds_server.resources import Serialised, Snapshot
from xds_server.validate import find_envoy

PER_MODULE: Final = 100
COMPILED: Final = (10_000, 100_000)
SEARCHED: Final = (
    ("list", 100),
    ("list", 1_000),
    ("list", 10_000),
    ("tree", 100),
    ("tree", 1_000),
    ("tree", 10_000),
    ("tree", 100_000),
)
FLAGS: Final = ("--use-dynamic-base-id", "--disable-hot-restart", "--concurrency", "1", "-l", "error")


def document(routes: int, *, kind: str = "tree", scoping: str = "none") -> dict[str, Any]:
    """Modules of 100 prefix routes of one host, answered by Envoy itself."""
    return {
        "version": 1,
        "listeners": {"http": {"port": 8080, "access_log": "none", "route_table": kind, "route_scopes": scoping}},
        "tiers": {"free": {"unlimited": True}},
        "modules": {f"m{number}": module(number) for number in range(max(1, routes // PER_MODULE))},
    }


def module(number: int, body: str = "ok") -> dict[str, Any]:
    routes = {
        f"r{index}": {
            "match": {"path": {"prefix": f"/m{number}/r{index}"}, "methods": ["GET"]},
            "respond": {"status": 200, "body": body},
        }
        for index in range(PER_MODULE)
    }
    return {"tier": "free", "listener": "http", "hosts": ["bench"], "authentication": "none", "routes": routes}


class Compiling:
    """A gateway and what the publisher keeps between compilations."""

    def __init__(self, routes: int, ports: dict[str, int] | None = None, **more: str) -> None:
        self.gateway = decode(document(routes, **more))
        self.settings = compiler.Settings(listener_ports=ports or {})
        self.memo, self.serialised = Memo(), Serialised()

    def snapshot(self) -> Snapshot:
        found = compiler.compile(self.gateway, self.settings, {}, memo=self.memo)
        result = Snapshot.of(1, found.messages, self.serialised.of)
        self.serialised.end()
        return result

    def change(self, number: int, body: str) -> None:
        """One route of one module is another."""
        changed = self.gateway.modules[f"m{number}"]
        route = decode({**document(PER_MODULE), "modules": {"m": module(number, body)}}).modules["m"].routes["r0"]
        changed = changed.model_copy(update={"routes": {**changed.routes, "r0": route}})
        self.gateway = self.gateway.model_copy(update={"modules": {**self.gateway.modules, f"m{number}": changed}})


def run() -> None:
    for count in COMPILED:
        subprocess.run([sys.executable, "-m", "tests.bench.bench_routes", "compile", str(count)], check=True)
    search()
    asyncio.run(live())


def compile_many(count: int) -> None:
    """In a process of its own, whose memory is this compilation's."""
    gc.set_threshold(50_000, 20, 20)  # as the console script does
    compiling = Compiling(count, scoping="host_path")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    compiling.snapshot()
    whole = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gc.freeze()
    took = []
    for attempt in range(7):
        compiling.change(attempt, "changed")
        began = time.perf_counter()
        compiling.snapshot()
        took.append(time.perf_counter() - began)
    one = Compiling(count)
    began = time.perf_counter()
    one.snapshot()
    unscoped = time.perf_counter() - began
    one.change(1, "changed")
    began = time.perf_counter()
    one.snapshot()
    print(
        f"routes    {count:>6} compiled in {whole:.2f} s (one table: {unscoped:.2f} s), peak {peak / 1024:.0f} MiB "
        f"(model {before / 1024:.0f})   one changed: {statistics.median(took) * 1000:.1f} ms, "
        f"one table {(time.perf_counter() - began) * 1000:.0f} ms",
        flush=True,
    )


@contextmanager
def envoy(config: Path) -> Iterator[psutil.Process]:
    child = subprocess.Popen([str(find_envoy()), "-c", str(config), *FLAGS], stdout=subprocess.DEVNULL)
    try:
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait()


def search() -> None:
    with tempfile.TemporaryDirectory(prefix="tollhouse-bench-") as directory:
        for kind, count in SEARCHED:
            port, admin = free_port(), free_port()
            config = Path(directory) / "static.pb"
            messages = compiler.compile(
                decode(document(count, kind=kind)), compiler.Settings(listener_ports={"http": port}), {}
            ).messages
            config.write_bytes(bootstrap(messages, admin=("127.0.0.1", admin)).SerializeToString())
            with envoy(config) as process:
                until(partial(ready, admin), what="Envoy is ready", seconds=60)
                path = f"/m{count // PER_MODULE - 1}/r{PER_MODULE - 1}"
                result, cpu = min((measured(port, process, path, {}) for _ in range(2)), key=lambda pair: pair[1])
            print(
                f"routes    the last of {count:>6} in a {kind}   {result.per_second:7.0f} requests/s   "
                f"{cpu:6.0f} us of Envoy's CPU a request",
                flush=True,
            )


def ready(admin: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{admin}/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


async def live(count: int = 10_000, rounds: int = 20) -> None:
    """From `Hub.publish` of one changed route to Envoy's first answer of the new kind; a look each half millisecond."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    for scoping in ("host_path", "none"):
        port, hub = free_port(), Hub()
        compiling = Compiling(count, {"http": port}, scoping=scoping)
        hub.publish(compiling.snapshot())
        server = await start(hub, "127.0.0.1:0")
        with tempfile.TemporaryDirectory(prefix="tollhouse-bench-") as directory:
            async with running("delta", server.port, Path(directory)):
                await said(port, "ok", 60)
                took = [await change(compiling, hub, port, f"edition {number}") for number in range(rounds)]
                calm, busy = await churn(compiling, hub, port)
        await server.stop(0)
        print(
            f"routes    one changed of {count} live, scopes {scoping}: p50 {statistics.median(took) * 1000:.1f} ms   "
            f"max {max(took) * 1000:.1f} ms after the push   p99 of others {calm:.2f} ms, "
            f"under 5 changes a second {busy:.2f} ms ({busy / calm:.2f} times)",
            flush=True,
        )


async def churn(compiling: Compiling, hub: Hub, port: int, changes: int = 25) -> tuple[float, float]:
    """The p99 in milliseconds of requests for another route, without changes and under five of them a second."""
    editions = []
    for number in range(changes):
        compiling.change(0, f"churn {number}")
        editions.append(compiling.snapshot())
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        calm = await loop.run_in_executor(pool, loaded, port, changes / 5)
        under = loop.run_in_executor(pool, loaded, port, changes / 5)
        for edition in editions:
            hub.publish(edition)
            await asyncio.sleep(0.2)
        return calm, await under


def loaded(port: int, seconds: float) -> float:
    result = asyncio.run(load(port, "/m1/r0", {}, connections=4, seconds=seconds))
    assert set(result.statuses) == {200}, result.statuses
    return result.percentile(0.99)


async def change(compiling: Compiling, hub: Hub, port: int, body: str) -> float:
    compiling.change(0, body)
    snapshot = compiling.snapshot()
    await asyncio.sleep(0.05)
    began = time.perf_counter()
    hub.publish(snapshot)
    await said(port, body, 10)
    return time.perf_counter() - began


async def said(port: int, body: str, limit: float) -> None:
    """Wait until the first route of the first module answers so."""
    async with asyncio.timeout(limit):
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                while await asked(reader, writer) != body:  # noqa: ASYNC110 - Envoy tells nobody
                    await asyncio.sleep(0.0005)
                return writer.close()
            await asyncio.sleep(0.01)


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    writer.write(b"GET /m0/r0 HTTP/1.1\r\nhost: bench\r\n\r\n")
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    return (await reader.readexactly(length)).decode()


if __name__ == "__main__":
    compile_many(int(sys.argv[2]))
