"""Endpoints of services: read from their directory, the last good ones kept, and sent to Envoy as EDS alone."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway.model import Endpoint, Gateway, decode
from tests.ads import real_envoy as real
from tests.support.upstream import Upstream
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.compiler import Settings
from xds_server.endpoints import EndpointStore
from xds_server.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Snapshot
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
    return Builder(settings, SecretStore(directory / "secrets"), None, EndpointStore(directory))


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
    found = EndpointStore(tmp_path).read()
    assert found.faults == {}
    assert found.endpoints == {
        "ledger": (
            Endpoint(address="10.0.0.1", port=80),
            Endpoint(address="2001:db8::1", port=81, weight=2, zone="a"),
        ),
        "idle": (),
        "as-json": (Endpoint(address="10.0.0.3", port=80),),
    }


@pytest.mark.parametrize("directory", [None, Path("/nonexistent/endpoints")])
def test_no_directory_is_an_empty_store(directory: Path | None) -> None:
    store = EndpointStore(directory)
    assert store.stamp() == ()
    assert store.read().endpoints == {}


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
    store = EndpointStore(tmp_path)
    write(tmp_path, "- {address: 10.0.0.1, port: 80}")
    good = store.read().endpoints
    write(tmp_path, text)
    found = store.read()
    assert found.endpoints == good
    assert fault in found.faults["ledger"]


def test_a_broken_file_without_a_good_one_before_is_a_service_without_endpoints(tmp_path: Path) -> None:
    write(tmp_path, "nonsense")
    (problem,) = EndpointStore(tmp_path).read().problems(gateway())
    assert (problem.code, problem.severity, problem.path) == ("GW608", "warning", ("upstreams", "ledger", "service"))
    assert "there are none yet" in problem.message


def test_a_service_whose_file_is_removed_has_no_endpoints(tmp_path: Path) -> None:
    store = EndpointStore(tmp_path)
    write(tmp_path, "- {address: 10.0.0.1, port: 80}")
    assert store.read().endpoints
    (tmp_path / "ledger.yaml").unlink()
    assert store.read().endpoints == {}


def test_a_file_that_may_not_be_read_is_a_fault_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    write(tmp_path, "[]")
    monkeypatch.setattr(Path, "read_bytes", denied)  # root, who may run this, reads every file
    assert "Permission denied" in EndpointStore(tmp_path).read().faults["ledger"]


def test_the_stamp_changes_with_every_file(tmp_path: Path) -> None:
    made = builder(tmp_path)
    stamps = {made.stamp()}
    write(tmp_path, "[]")
    stamps.add(made.stamp())
    write(tmp_path, "[]", "other")
    stamps.add(made.stamp())
    (tmp_path / "other.yaml").unlink()
    assert len(stamps) == 3
    assert made.stamp() in stamps


# --------------------------------------------------------------------------------------------------------- to Envoy
def versions(snapshot: Snapshot) -> dict[str, str]:
    return {kind: snapshot.types[kind].version for kind in (CLUSTER, LISTENER, ROUTES, ENDPOINTS)}


async def test_a_change_is_one_of_endpoints_alone(tmp_path: Path) -> None:
    made = builder(tmp_path)
    unknown = await made.build(gateway(), 1)
    assert [problem.code for problem in unknown.problems] == ["GW607"]
    write(tmp_path, "- {address: 10.0.0.1, port: 80}")
    known = await made.build(gateway(), 1)
    assert known.problems == ()
    before, after = versions(unknown.snapshot), versions(known.snapshot)
    assert {kind for kind in before if before[kind] != after[kind]} == {ENDPOINTS}
    write(tmp_path, "nonsense")
    broken = await made.build(gateway(), 1)
    assert versions(broken.snapshot) == after
    assert [problem.code for problem in broken.problems] == ["GW608"]


@pytest.mark.parametrize("kind", ["sotw", "delta"])
async def test_envoy_follows_the_directory(tmp_path: Path, kind: real.Kind) -> None:
    hub = Hub()
    server = await start(hub, "127.0.0.1:0", registry=CollectorRegistry(), insecure_plaintext=False)
    made = builder(tmp_path, real.free_port())
    hub.publish((await made.build(gateway(), 1)).snapshot)
    try:
        async with real.running(kind, server.port, tmp_path) as envoy:
            await envoy.sees("/", 503)
            with Upstream() as first, Upstream() as second:
                write(tmp_path, f"- {{address: 127.0.0.1, port: {first.port}}}")
                hub.publish((await made.build(gateway(), 1)).snapshot)
                await envoy.sees("/", 200)
                write(tmp_path, f"- {{address: 127.0.0.1, port: {second.port}}}")
                hub.publish((await made.build(gateway(), 1)).snapshot)
                while (await envoy.get("/")).headers.get("x-port") != str(second.port):
                    pass
                stats = (await envoy.http.get(f"{envoy.admin}/stats?filter=cluster_manager.cluster_modified")).text
                assert stats.split()[-1] == "0"
                warned = (tmp_path / "envoy.log").read_text().splitlines()
                assert [line for line in warned if "downstream connections" not in line] == []
    finally:
        await server.stop(0)
