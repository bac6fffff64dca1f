"""Endpoints of services: read from their directory, the last good ones kept, and sent to Envoy as EDS alone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from envoy.config.core.v3.health_check_pb2 import HealthStatus
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from prometheus_client import CollectorRegistry

from gateway.model import Gateway, ServiceEndpoint, decode
from tests.ads import real_envoy as real
from tests.support.upstream import Upstream
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.compiler import Settings, compile  # noqa: A004
from xds_server.compiler.services import Assigned, Assigner
from xds_server.endpoints.directory import Directory
from xds_server.endpoints.services import ServiceRegistry, Services
from xds_server.resources import ENDPOINTS, Snapshot
from xds_server.rollout.candidate import Builder
from xds_server.secrets import SecretStore


def gateway() -> Gateway:
    return decode(
        {
            "version": 1,
            "listeners": {"http": {"port": 8080, "access_log": "none"}},
            "upstreams": {"ledger": {"type": "eds", "service": "ledger"}},
            "tiers": {"free": {"unlimited": True}},
            "modules": {
                "m": {
                    "tier": "free",
                    "listener": "http",
                    "authentication": "none",
                    "routes": {"all": {"match": {"path": {"prefix": "/"}}, "backends": [{"upstream": "ledger"}]}},
                }
            },
        }
    )


def builder(directory: Path, port: int = 8080) -> Builder:
    settings = Settings(listener_ports={"http": port})
    return Builder(settings, SecretStore(directory / "secrets"), None, ServiceRegistry([Directory(directory)]))


def write(directory: Path, text: str, service: str = "ledger") -> None:
    """As one should: replaced at once."""
    fresh = directory / f".{service}"
    fresh.write_text(text)
    fresh.rename(directory / f"{service}.yaml")


# ------------------------------------------------------------------------------------------------------ the directory
def test_a_file_for_each_service(tmp_path: Path) -> None:
    write(tmp_path, "---\n- {address: 10.0.0.1, port: 80}\n- {address: '2001:db8::1', port: 81, weight: 2, zone: a}\n")
    write(tmp_path, "[]", "idle")
    write(tmp_path, '[{"address": "10.0.0.3", "port": 80, "priority": 0}]', "as-json")
    (tmp_path / "Not-A-Name.yaml").write_text("[]")
    (tmp_path / "readme.txt").write_text("nothing")
    (tmp_path / "folder.yaml").mkdir()
    found = Directory(tmp_path).read()
    assert found.faults == {}
    assert found.endpoints == {
        "ledger": (
            ServiceEndpoint(address="10.0.0.1", port=80),
            ServiceEndpoint(address="2001:db8::1", port=81, weight=2, zone="a"),
        ),
        "idle": (),
        "as-json": (ServiceEndpoint(address="10.0.0.3", port=80),),
    }


def test_no_directory_is_an_empty_store() -> None:
    store = Directory(Path("/nonexistent/endpoints"))
    assert store.stamp() == ()
    assert store.read().endpoints == {}


def test_a_directory_that_goes_away_takes_nothing_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "endpoints"
    folder.mkdir()
    write(folder, "- {address: 10.0.0.1, port: 80}")
    store = Directory(folder)
    assert store.read().endpoints
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        store.read()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- {address: a.internal, port: 80}", "endpoints[0].address: the address 'a.internal' is not an IP address"),
        ("- {address: 10.0.0.1}", "endpoints[0].port: Field required"),
        ("- {address: 10.0.0.1, port: 80, wieght: 2}", "endpoints[0].wieght: Extra inputs are not permitted"),
        ("- {address: 10.0.0.1, port: 80, priority: 1}", "endpoints[0].priority: no endpoint has priority 0"),
        ("- {address: 10.0.0.1, port: 80}\n- {address: 10.0.0.1, port: 80}", "endpoints[1]: endpoint 1 is the same as"),
        ("address: 10.0.0.1", "endpoints: Input should be a valid array"),
        ("- {address: 10.0.0.1, port: 80, port: 81}", "duplicate key 'port'"),
        ("- [", "it is not YAML"),
        ("", "endpoints: Input should be a valid array"),
        ("- &a [1, 2]\n- !!python/object:os.system {}", "is not allowed"),
        ("# " + "x" * (4 << 20), "the file is larger than"),
    ],
)
def test_a_broken_file_keeps_the_last_good_endpoints(tmp_path: Path, text: str, fault: str) -> None:
    store = Directory(tmp_path)
    write(tmp_path, "- {address: 10.0.0.1, port: 80}")
    good = store.read().endpoints
    write(tmp_path, text)
    found = store.read()
    assert found.endpoints == good
    assert fault in found.faults["ledger"]


def test_a_broken_file_without_a_good_one_before_is_a_service_without_endpoints(tmp_path: Path) -> None:
    write(tmp_path, "nonsense")
    (problem,) = Directory(tmp_path).read().problems(gateway())
    assert (problem.code, problem.severity, problem.path) == ("GW608", "warning", ("upstreams", "ledger", "service"))
    assert "there are none yet" in problem.message


def test_a_service_whose_file_is_removed_has_no_endpoints(tmp_path: Path) -> None:
    store = Directory(tmp_path)
    write(tmp_path, "- {address: 10.0.0.1, port: 80}")
    assert store.read().endpoints
    (tmp_path / "ledger.yaml").unlink()
    assert store.read().endpoints == {}


def test_a_file_that_may_not_be_read_is_a_fault_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    write(tmp_path, "[]")
    monkeypatch.setattr(Path, "read_bytes", denied)  # root, who may run this, reads every file
    assert "Permission denied" in Directory(tmp_path).read().faults["ledger"]


def test_the_stamp_changes_with_every_file(tmp_path: Path) -> None:
    store = Directory(tmp_path)
    stamps = {store.stamp()}
    write(tmp_path, "[]")
    stamps.add(store.stamp())
    write(tmp_path, "[]", "other")
    stamps.add(store.stamp())
    (tmp_path / "other.yaml").unlink()
    assert len(stamps) == 3
    assert store.stamp() in stamps


# --------------------------------------------------------------------------------------------------------- to Envoy
@asynccontextmanager
async def following(services: ServiceRegistry) -> AsyncIterator[None]:
    task = asyncio.create_task(services.run())
    try:
        await services.complete(15)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_change_is_one_of_endpoints_alone(tmp_path: Path) -> None:
    made = builder(tmp_path)
    async with following(made.services):
        compiled = (await made.build(gateway(), 1)).snapshot
        unknown = made.assign(gateway(), compiled)
        assert [problem.code for problem in unknown.problems] == ["GW607"]
        write(tmp_path, "- {address: 10.0.0.1, port: 80}")
        await made.services.news()
        await made.services.news()
        known = made.assign(gateway(), compiled)
        assert known.problems == ()
        for kind, resources in compiled.types.items():
            assert (known.snapshot.types[kind] is resources) == (kind != ENDPOINTS)
        write(tmp_path, "nonsense")
        await made.services.news()
        broken = made.assign(gateway(), compiled)
        assert broken.snapshot.version == known.snapshot.version
        assert [problem.code for problem in broken.problems] == ["GW608"]


@pytest.mark.parametrize("kind", ["sotw", "delta"])
async def test_envoy_follows_the_directory(tmp_path: Path, kind: real.Kind) -> None:
    hub = Hub()
    server = await start(hub, "127.0.0.1:0", registry=CollectorRegistry(), insecure_plaintext=False)
    made = builder(tmp_path, real.free_port())
    compiled = (await made.build(gateway(), 1)).snapshot
    hub.publish(made.assign(gateway(), compiled).snapshot)
    try:
        async with following(made.services), real.running(kind, server.port, tmp_path) as envoy:
            await made.services.news()
            hub.publish(made.assign(gateway(), compiled).snapshot)
            await envoy.sees("/", 503)
            with Upstream() as first, Upstream() as second:
                for upstream in (first, second):
                    write(tmp_path, f"- {{address: 127.0.0.1, port: {upstream.port}}}")
                    await made.services.news()
                    hub.publish(made.assign(gateway(), compiled).snapshot)
                    await envoy.sees("/", 200)
                while (await envoy.get("/")).headers.get("x-port") != str(second.port):
                    pass
                stats = (await envoy.http.get(f"{envoy.admin}/stats?filter=cluster_manager.cluster_modified")).text
                assert stats.split()[-1] == "0"
                warned = (tmp_path / "envoy.log").read_text().splitlines()
                assert [line for line in warned if "downstream connections" not in line] == []
    finally:
        await server.stop(0)


# ---------------------------------------------------------------------------------------------------------- assigning
def assigned(*endpoints: ServiceEndpoint, complete: bool = True, **settings: object) -> Assigned:
    made = Settings(**settings)  # type: ignore[arg-type]
    compiled = Snapshot.of(1, compile(gateway(), made, {}, strict=True).messages)
    known = {"ledger": endpoints} if endpoints else {}
    return Assigner(made).assign(gateway(), compiled, known, complete=complete)


def sent(found: Assigned) -> ClusterLoadAssignment:
    return ClusterLoadAssignment.FromString(found.snapshot.types[ENDPOINTS].resources["ledger"].data)


def test_states_are_envoys_and_priorities_close_up() -> None:
    found = sent(
        assigned(
            ServiceEndpoint(address="10.0.0.1", port=80, priority=3),
            ServiceEndpoint(address="10.0.0.2", port=80, priority=9, state="draining", zone="b"),
            ServiceEndpoint(address="10.0.0.3", port=80, priority=9, state="unhealthy"),
        )
    )
    assert [(group.priority, group.locality.zone) for group in found.endpoints] == [(0, ""), (1, "b"), (1, "")]
    assert [HealthStatus.Name(one.health_status) for group in found.endpoints for one in group.lb_endpoints] == [
        "UNKNOWN",
        "DRAINING",
        "UNHEALTHY",
    ]


def test_an_unsafe_endpoint_is_left_out_alone() -> None:
    good = ServiceEndpoint(address="10.0.0.1", port=80)
    for address, port in (("169.254.169.254", 80), ("127.0.0.1", 9001), ("ledger.internal", 80)):
        bad = ServiceEndpoint(address=address, port=port)
        found = assigned(bad, good, forbidden=(("127.0.0.1", 9001),))
        (kept,) = sent(found).endpoints[0].lb_endpoints
        assert kept.endpoint.address.socket_address.address == "10.0.0.1"
        assert [(problem.code, problem.severity) for problem in found.problems] == [("GW606", "warning")]


def test_what_is_not_known_yet_is_not_called_empty() -> None:
    assert "ledger" not in assigned(complete=False).snapshot.types[ENDPOINTS].resources
    assert not sent(assigned()).endpoints


class Said:
    """A source that says what it is told to."""

    def __init__(self, name: str, services: Services | None) -> None:
        self.name = name
        self.services = services

    async def run(self, changed: Callable[[], None]) -> None:
        changed()


class Crashing(Said):
    async def run(self, changed: Callable[[], None]) -> None:
        raise RuntimeError("a fault of ours")


async def test_a_source_that_crashes_takes_nobody_with_it(tmp_path: Path) -> None:
    write(tmp_path, "- {address: 10.0.0.1, port: 80}")
    services = ServiceRegistry([Crashing("crashing", Services({"kept": ()})), Directory(tmp_path)])
    async with following(services):
        assert set(services.services.endpoints) == {"kept", "ledger"}
        write(tmp_path, "[]", "more")
        while "more" not in services.services.endpoints:
            await services.news()


def test_the_first_source_is_believed() -> None:
    ours, theirs = (ServiceEndpoint(address="10.0.0.1", port=80, weight=weight) for weight in (1, 2))
    more = ServiceEndpoint(address="10.0.0.2", port=80)
    sources = [Said("a", Services({"s": (ours,), "idle": ()})), Said("b", Services({"s": (theirs, more)}))]
    found = ServiceRegistry(sources).services
    assert found.endpoints == {"s": (ours, more), "idle": ()}
    assert found.origins["s"] == ("a", "b")
    assert found.complete
    assert not ServiceRegistry([*sources, Said("c", None)]).services.complete
