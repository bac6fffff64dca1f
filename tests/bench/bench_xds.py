"""One route changes for a thousand delta clients: the clients in one process, the server in another."""

import statistics
import time

from tests.support.child import Child
from tests.support.plane import plane
from tests.support.results import record
from tests.support.swarm import Clients, swarm

CLIENTS, CLUSTERS, ROUTES, ROUNDS = 1000, 100, 1000, 10


def run() -> None:
    with plane(clusters=CLUSTERS, routes=ROUTES, still=1) as server:
        empty = server.resident
        began = time.monotonic()
        with swarm(server.ready, CLIENTS, kinds="delta") as clients:
            assert not clients.until(0)
            connected = time.monotonic() - began
            stream = (server.resident - empty) / CLIENTS / 1000
            took, cpu = pushes(server, clients)
    p50, most = statistics.median(took), took[-1]
    record(
        "R2",
        value=f"p50 {p50:.2f} s, max {most:.2f} s, {stream:.0f} KB a stream",
        passed=p50 <= 0.5 and most <= 1.5 and stream <= 100,
        clients=CLIENTS,
        cpu_ms_a_push=round(cpu * 1000),
    )
    print(
        f"xds       one of {ROUTES} routes pushed to {CLIENTS} delta clients: p50 {p50 * 1000:.0f} ms   "
        f"max {most * 1000:.0f} ms   server CPU {cpu * 1000:.0f} ms   {stream:.0f} KB a stream   "
        f"all had all {connected:.1f} s after they came"
    )


def pushes(server: Child, clients: Clients) -> tuple[list[float], float]:
    """Seconds until each client had each version, in order, and the server's CPU seconds a version."""
    clients.log()
    before, published = server.cpu, {}
    for version in range(1, ROUNDS + 1):
        published[version] = server.ask("publish", version)
        assert not clients.until(version)
        time.sleep(0.2)
    cpu = (server.cpu - before) / ROUNDS
    return sorted(s.at - published[s.version] for seen in clients.log().values() for s in seen), cpu
