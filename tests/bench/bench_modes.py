"""A limit in its three modes: what requests a second cost, and what two Envoys let through together.

    python -m tests.bench modes

The costs are ratios to the same chain without a limit, of paired rounds. The campaign offers two Envoys more than the
limit, unevenly, and the other way round from the middle on; each second and each minute is held against the limit.
"""

import asyncio
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from gateway.model import decode
from tests.bench.load import Load, read_answer
from tests.bench.throughput import envoy, measured
from tests.compiler.running import RunningGateway
from tests.policy.sharing import Sharing
from tests.support.gateway import until

MODES: Final = ("exact", "local", "quota")
ROUNDS: Final = 10
LIMIT, SECONDS = 50, 60
OFFERED: Final = (100, 20)
"""Requests a second to the two Envoys, of each mode."""


def document(upstream: int, limit: str) -> dict[str, Any]:
    """One route without a limit, and one for each mode. Who calls is told by the address."""
    routes = {
        mode: {
            "match": {"path": {"exact": f"/{mode}"}},
            "backends": [{"upstream": "a"}],
            "rate_limits": [{"limit": limit, "per": "ip", "mode": mode}] if mode in MODES else [],
        }
        for mode in ("none", *MODES)
    }
    return {
        "version": 1,
        "listeners": {"http": {"port": 8080, "access_log": "none"}},
        "upstreams": {"a": {"type": "static", "endpoints": [{"address": "127.0.0.1", "port": upstream}]}},
        "tiers": {"free": {"unlimited": True}},
        "modules": {"m": {"tier": "free", "listener": "http", "authentication": "none", "routes": routes}},
    }


def run() -> None:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tollhouse-bench-")))
        upstream, _ = stack.enter_context(envoy("upstream.yaml", directory))
        costs(stack, directory, document(upstream, "1000000/second"))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tollhouse-bench-")))
        upstream, _ = stack.enter_context(envoy("upstream.yaml", directory))
        campaign(stack, directory, document(upstream, f"{LIMIT}/second"))


@contextmanager
def sharing(described: dict[str, Any]) -> Iterator[int]:
    """The decision service in a thread with a loop of its own: its port."""
    loop, service = asyncio.new_event_loop(), Sharing(decode(described))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(service.start(), loop).result(10)
    try:
        yield service.port
    finally:
        asyncio.run_coroutine_threadsafe(service.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def gateways(stack: ExitStack, directory: Path, described: dict[str, Any], count: int) -> list[RunningGateway]:
    service = stack.enter_context(sharing(described))
    found = []
    for number in range(count):
        place = directory / str(number)
        place.mkdir()
        text = yaml.safe_dump(described, sort_keys=False)
        found.append(stack.enter_context(RunningGateway(place, text, {}, decisions=(("127.0.0.1", service),))))
    for gateway in found:
        for mode in MODES:
            until(lambda g=gateway, m=mode: g.request(f"/{m}").status_code == 200, what=f"{mode} serves")  # type: ignore[misc]
    return found


def costs(stack: ExitStack, directory: Path, described: dict[str, Any]) -> None:
    [gateway] = gateways(stack, directory, described, 1)
    port = gateway.ports["http"]
    process = psutil.Process(gateway.process.pid)

    def paired(mode: str, number: int) -> tuple[tuple[Load, float], tuple[Load, float]]:
        if number % 2:
            limited = measured(port, process, f"/{mode}", {})
            return limited, measured(port, process, "/none", {})
        without = measured(port, process, "/none", {})
        return measured(port, process, f"/{mode}", {}), without

    for mode in ("quota", "local"):
        pairs = [paired(mode, number) for number in range(ROUNDS + 1)][1:]
        ratio = statistics.median(a.per_second / b.per_second for (a, _), (b, _) in pairs)
        cpu = statistics.median(a - b for (_, a), (_, b) in pairs)
        rate = statistics.median(a.per_second for (a, _), _ in pairs)
        print(
            f"modes     {mode:<6} {rate:7,.0f}/s   {ratio:.3f} of the chain without a limit   "
            f"{cpu:+.1f} us of Envoy's CPU a request",
            flush=True,
        )


def campaign(stack: ExitStack, directory: Path, described: dict[str, Any]) -> None:
    found = gateways(stack, directory, described, 2)
    ports = [gateway.ports["http"] for gateway in found]
    admitted = asyncio.run(offered(ports))
    for mode in MODES:
        seconds = [admitted[mode][number] for number in range(SECONDS)]
        whole = sum(seconds)
        print(
            f"modes     {mode:<6} {LIMIT}/s over two Envoys, {sum(OFFERED)}/s offered: the worst second "
            f"{max(seconds)} ({max(seconds) / LIMIT - 1:+.0%}), {SECONDS} s together {whole} "
            f"({whole / LIMIT / SECONDS - 1:+.1%}), the least {min(seconds[1:])}",
            flush=True,
        )


async def offered(ports: list[int]) -> dict[str, Counter[int]]:
    """What was admitted, by mode and second."""
    admitted: dict[str, Counter[int]] = {mode: Counter() for mode in MODES}
    started = time.monotonic() + 0.5

    async def drive(port: int, mode: str, rates: tuple[int, int], callers: int = 4) -> None:
        async def caller(place: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            due = started + place / max(rates)
            while due < started + SECONDS:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                writer.write(f"GET /{mode} HTTP/1.1\r\nhost: bench\r\n\r\n".encode())
                if await read_answer(reader) == 200:
                    admitted[mode][int(time.monotonic() - started)] += 1
                due += callers / rates[due >= started + SECONDS / 2]
            writer.close()

        await asyncio.gather(*(caller(place) for place in range(callers)))

    first, second = OFFERED
    await asyncio.gather(
        *(drive(ports[0], mode, (first, second)) for mode in MODES),
        *(drive(ports[1], mode, (second, first)) for mode in MODES),
    )
    return admitted


if __name__ == "__main__":
    run()
