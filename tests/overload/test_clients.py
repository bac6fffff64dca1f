"""What many clients, or bad ones, cost the server and the others."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from tests.support.child import Child
from tests.support.plane import plane
from tests.support.results import record, size
from tests.support.swarm import Clients, swarm
from xds_server.ads.server import ADS
from xds_server.resources import ROUTES

MIB = 1024 * 1024
STORM = size("STORM", 300)
STALLED, UPDATES = size("STALLED", 20), size("UPDATES", 200)


def delays(server: Child, clients: Clients, versions: range, pause: float = 0.0) -> list[float]:
    """Seconds from each version's publication to its arrival at each client, in order."""
    clients.log()
    published = {}
    for version in versions:
        published[version] = server.ask("publish", version)
        assert not clients.until(version)
        time.sleep(pause)
    return sorted(s.at - published[s.version] for seen in clients.log().values() for s in seen)


def p99(delays: list[float]) -> float:
    return delays[int(0.99 * (len(delays) - 1))]


def test_r25_all_clients_back_at_once() -> None:
    with plane(clusters=100, routes=100) as server, swarm(server.ready, STORM) as clients:
        assert not clients.until(0)
        steady = server.resident
        server.ask("lag")
        dropped = clients.drop()
        server.ask("publish", 1)
        peak, behind = steady, True
        while behind and time.monotonic() < dropped + 40:
            behind = bool(clients.until(1, 0.2))
            peak = max(peak, server.resident)
        took = max(seen[-1].at for seen in clients.log().values()) - dropped
        lag = server.ask("lag")
    record(
        "R25",
        value=round(took, 2),
        passed=took <= 15 and peak <= 2 * steady and lag["p99"] <= 0.25,
        unit="s until all had all",
        clients=STORM,
        rss=f"{peak / steady:.2f} times",
        lag_p99_ms=round(lag["p99"] * 1000, 1),
        lag_max_ms=round(lag["max"] * 1000, 1),
    )
    assert not behind
    assert peak <= 2 * steady
    assert took <= 30
    assert lag["p99"] <= 0.5


def test_r22_a_client_that_never_answers_holds_nobody_up() -> None:
    with plane() as server, swarm(server.ready, 20) as clients:
        assert not clients.until(0)
        before = delays(server, clients, range(1, 21))
        with swarm(server.ready, 10, role="silent") as silent:
            assert not silent.until(0)
            after = delays(server, clients, range(21, 41))
            answered = silent.log()
    record("R22", value=f"{p99(after) * 1000:.1f}", passed=p99(after) <= 0.5, unit="ms p99 of the others", silent=10)
    assert all(s.version <= 20 for seen in answered.values() for s in seen), "one response is outstanding, no more"
    assert p99(after) <= max(1.0, 5 * p99(before))


@contextmanager
def stalled(server: Child) -> Iterator[None]:
    """Clients that ask for everything and read nothing."""
    with swarm(server.ready, STALLED, role="stalled", types="blob,clusters,routes"):
        deadline = time.monotonic() + 30
        while server.ask("streams") < STALLED + 20:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield


def test_r28_clients_that_read_nothing() -> None:
    with plane(size=MIB) as server, swarm(server.ready, 20) as clients:
        assert not clients.until(0)
        alone = delays(server, clients, range(1, UPDATES + 1))
        with stalled(server):
            before = server.resident
            beside = delays(server, clients, range(UPDATES + 1, 2 * UPDATES + 1))
            grown = (server.resident - before) / MIB
    change = p99(beside) / p99(alone) - 1
    record(
        "R28",
        value=round(grown, 1),
        passed=grown <= 200 and change <= 0.2,
        unit="MiB grown",
        stalled=STALLED,
        updates=UPDATES,
        others_p99_ms=f"{p99(alone) * 1000:.1f} -> {p99(beside) * 1000:.1f}",
    )
    assert grown <= 200
    assert p99(beside) <= 0.1 + 3 * p99(alone)


def test_r29_a_flood_on_one_stream_is_slowed_down_and_costs_the_others_little() -> None:
    with plane() as server, swarm(server.ready, 20) as clients:
        assert not clients.until(0)
        alone = delays(server, clients, range(1, 51), 0.01)
        with swarm(server.ready, 1, role="flood") as flood:
            time.sleep(2)  # its burst is through, and buffers are full
            began, said = time.monotonic(), flood.said
            beside = delays(server, clients, range(51, 151), 0.01)
            rate = (flood.said - said) / (time.monotonic() - began)
    record(
        "R29",
        value=round(rate),
        passed=rate <= 1000 and statistics.median(beside) <= 0.1,
        unit="requests/s taken of a flood",
        others_p99_ms=f"{p99(alone) * 1000:.1f} -> {p99(beside) * 1000:.1f}",
    )
    assert rate <= 2000
    assert p99(beside) <= 0.2 + 5 * p99(alone)


REFUSED = {
    "5 MiB": DiscoveryRequest(node=Node(id="n", cluster="x" * 5 * MIB), type_url=ROUTES),
    "100,000 names": DiscoveryRequest(
        node=Node(id="n"), type_url=ROUTES, resource_names=[f"r{n}" for n in range(100_000)]
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_r29_a_request_beyond_all_measure_ends_its_stream(what: str) -> None:
    with plane() as server, swarm(server.ready, 1) as clients:
        with grpc.insecure_channel(f"127.0.0.1:{server.ready}") as channel:
            stream = channel.stream_stream(
                f"/{ADS}/StreamAggregatedResources", request_serializer=DiscoveryRequest.SerializeToString
            )
            with pytest.raises(grpc.RpcError) as caught:
                next(stream(iter([REFUSED[what]]), timeout=20))
        server.ask("publish", 1)
        assert not clients.until(1)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
