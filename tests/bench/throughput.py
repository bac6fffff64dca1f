"""Requests/s through Envoy with the chain that Tollhouse compiles, against the same chain written by hand.

Both Envoys ask the same decision service and the same upstream. They are loaded in turn, round by round, so that the
machine's mood cancels out of the ratio; Envoy's own CPU per request is the steadier figure of the two.
"""

import asyncio
import statistics
import string
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from tests.bench.load import Load, load
from tests.support.gateway import Gateway, free_port, until
from xds_server.validate import find_envoy

HERE = Path(__file__).parent
ROUNDS, SECONDS, CONNECTIONS = 16, 1.5, 16


@contextmanager
def envoy(template: str, directory: Path, **ports: int) -> Iterator[tuple[int, psutil.Process]]:
    """A static Envoy with one worker, as `gwctl up` runs its own: its port and its process."""
    port, admin = free_port(), free_port()
    file = directory / template
    text = (HERE / template).read_text()
    file.write_text(
        string.Template(text).substitute(PORT=port, ADMIN=admin, **{k.upper(): v for k, v in ports.items()})
    )
    flags = ["--use-dynamic-base-id", "--disable-hot-restart", "--concurrency", "1", "-l", "error"]
    with (directory / f"{template}.log").open("wb") as log:
        child = subprocess.Popen([str(find_envoy()), "-c", str(file), *flags], stdout=log, stderr=log)
    try:
        until(lambda: asyncio.run(answers(port)), what=f"{template} serves")
        yield port, psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait()


async def answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def measured(port: int, process: psutil.Process, path: str, headers: dict[str, str]) -> tuple[Load, float]:
    """The load, and Envoy's CPU in microseconds per request."""
    before = process.cpu_times()
    result = asyncio.run(load(port, path, headers, connections=CONNECTIONS, seconds=SECONDS))
    after = process.cpu_times()
    used = after.user - before.user + after.system - before.system
    assert set(result.statuses) == {200}, result.statuses
    return result, used / sum(result.statuses.values()) * 1e6


def run() -> None:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tollhouse-bench-")))
        upstream, _ = stack.enter_context(envoy("upstream.yaml", directory))
        document = directory / "bench.yaml"
        document.write_text(string.Template((HERE / "bench.yaml").read_text()).substitute(UPSTREAM=upstream))
        gateway = Gateway(directory / "state", document, options=("--no-demo",))
        stack.callback(gateway.close)
        decisions = int(gateway.up["ext_authz"].rpartition(":")[2])
        by_hand = stack.enter_context(envoy("handwritten.yaml", directory, upstream=upstream, decisions=decisions))
        ours = (gateway.port, psutil.Process(gateway.pids["envoy-1"]))
        key = {"x-api-key": gateway.key("wide", "bench")}
        until(lambda: gateway.client.get("/bench", headers=key).status_code == 200)
        for name, path, headers in (("key, tier, limit", "/bench", key), ("limit only", "/open", {})):
            compare(name, path, headers, ours, by_hand)


def compare(
    name: str, path: str, headers: dict[str, str], ours: tuple[int, psutil.Process], by_hand: tuple[int, psutil.Process]
) -> None:
    def pair(number: int) -> tuple[tuple[Load, float], tuple[Load, float]]:
        """Who goes first alternates: a machine that slows down must not always slow the same one."""
        if number % 2:
            theirs = measured(*by_hand, path, headers)
            return measured(*ours, path, headers), theirs
        return measured(*ours, path, headers), measured(*by_hand, path, headers)

    pairs = [pair(number) for number in range(ROUNDS + 1)][1:]  # the first warms up
    ratio = statistics.median(a.per_second / b.per_second for (a, _), (b, _) in pairs)
    cpu = statistics.median(a / b for (_, a), (_, b) in pairs)
    mine, theirs = (statistics.median(both[i][0].per_second for both in pairs) for i in (0, 1))
    p99 = statistics.median(a.percentile(0.99) for (a, _), _ in pairs)
    print(
        f"requests  {name:<17} compiled {mine:,.0f}/s   by hand {theirs:,.0f}/s   ratio {ratio:.3f}   "
        f"Envoy CPU per request, ratio {cpu:.3f}   p99 {p99:.1f} ms"
    )
