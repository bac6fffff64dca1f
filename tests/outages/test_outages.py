"""What goes on when something is down: goals R14, R15 and R16, on real processes.

`make soak` makes the outages longer: TOLLHOUSE_OUTAGE_SECONDS, TOLLHOUSE_ENVOY_RESTARTS.
"""

import json
import stat
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import httpx
import pytest

from gwctl.exits import Exit
from gwctl.up.process import Process
from tests.outages.running import Site, ready
from tests.support.gateway import until
from tests.support.results import record, size


@pytest.fixture(scope="module")
def agent(site: Site) -> Process:
    process = site.agent("a")
    process.start()
    until((site.directory / "agent" / "view").exists, what="the agent keeps what it was given")
    return process


@pytest.fixture(scope="module")
def envoy(site: Site, agent: Process) -> Process:
    process = site.envoy("a")
    process.spawn()
    site.serves("first")
    return process


@contextmanager
def traffic(site: Site) -> Iterator[Counter[object]]:
    """One caller a kind, as fast as answers come: what they got, by kind and status; failures by their name."""
    seen: Counter[object] = Counter()
    stop = Event()
    kinds = {"/echo": {}, "/closed": site.bearer(exp=int(time.time()) + 3600), "/closed?": site.bearer(iss="other")}

    def call(path: str, headers: dict[str, str]) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{site.port}", timeout=10, trust_env=False) as client:
            while not stop.is_set():
                try:
                    seen[path, client.get(path, headers=headers).status_code] += 1
                except httpx.HTTPError as error:
                    seen[path, repr(error)] += 1

    callers = [Thread(target=call, args=kind) for kind in kinds.items()]
    for caller in callers:
        caller.start()
    try:
        yield seen
    finally:
        stop.set()
        for caller in callers:
            caller.join()


def test_r14_no_request_fails_while_the_control_plane_is_down(site: Site, envoy: Process) -> None:
    seconds = size("OUTAGE_SECONDS", 6)
    with traffic(site) as seen:
        time.sleep(0.3)
        site.plane("a").kill9()
        time.sleep(seconds)
        site.plane("a").start()
        time.sleep(1)
    expected = {("/echo", 200), ("/closed", 200), ("/closed?", 401)}
    failed = sum(count for key, count in seen.items() if key not in expected)
    record("R14", value=failed, passed=failed == 0, requests=seen.total(), seconds=seconds)
    assert set(seen) == expected, "tokens are verified, and no request fails"


def test_r15_an_envoy_that_restarts_meanwhile_serves_what_it_had(site: Site, envoy: Process, agent: Process) -> None:
    site.plane("a").kill9()
    took = []
    for number in range(size("ENVOY_RESTARTS", 5)):
        envoy.kill9()
        if number == 1:
            agent.kill9()
            agent.start()
        envoy.spawn()
        took.append(site.serves("first", seconds=10))
    assert site.get("/closed", **site.bearer()).status_code == 200
    assert site.get("/closed", **site.bearer(iss="other")).status_code == 401
    record("R15", value=round(max(took), 2), passed=max(took) <= 2, restarts=len(took), unit="s")
    assert max(took) <= 10

    modified = site.stat("cluster_manager.cluster_modified"), site.stat("listener_manager.listener_modified")
    site.plane("a").start()
    site.apply("a", "second")
    began = time.monotonic()
    site.serves("second", seconds=30)
    back = time.monotonic() - began
    record("R27", value=round(back, 1), passed=back <= 5, unit="s", case="back from the agent")
    again = site.stat("cluster_manager.cluster_modified"), site.stat("listener_manager.listener_modified")
    assert again == modified, "what is the same is not taken for new"


def test_what_is_kept_is_private(site: Site, agent: Process) -> None:
    kept = [site.directory / "a" / "snapshot", site.directory / "agent" / "view"]
    assert [stat.S_IMODE(file.stat().st_mode) for file in kept] == [0o600, 0o600]
    assert [stat.S_IMODE(file.parent.stat().st_mode) for file in kept] == [0o700, 0o700]
    for log in site.directory.glob("*.log"):
        assert site.hs256 not in log.read_bytes()


def test_r16_it_starts_from_its_disk_without_postgresql_and_catches_up_with_it(site: Site, envoy: Process) -> None:
    plane, api = site.plane("a"), site.addresses["a"][0]
    site.apply("a", "kept")
    site.serves("kept")
    kept = site.directory / "a" / "snapshot"
    until(lambda: b"kept" in kept.read_bytes(), what="the newest is kept")
    plane.kill9()
    site.postgres.stop()
    began = time.monotonic()
    plane.spawn()
    until(lambda: ready(api), what="it serves")
    took = time.monotonic() - began
    record("R16", value=round(took, 1), passed=took <= 5, unit="s", case="start without PostgreSQL")
    assert '"serving_from_disk"' in plane.log.read_text()
    assert site.gwctl("a", "status").returncode == Exit.UNREACHABLE, "who may ask is in the database"
    envoy.kill9()
    envoy.spawn()
    site.serves("kept")
    taken = [site.stat(f"{manager}.update_success") for manager in ("cluster_manager.cds", "listener_manager.lds")]

    site.postgres.start()
    status = until(lambda: _status(site), what="the database is back")
    until(lambda: '"event": "published"' in plane.log.read_text().rpartition("serving_from_disk")[2], what="compiled")
    assert status["published"]["revision"] == status["revision"]
    again = [site.stat(f"{manager}.update_success") for manager in ("cluster_manager.cds", "listener_manager.lds")]
    assert again == taken, "what is the same is not sent again"
    site.apply("a", "after")
    site.serves("after")


def _status(site: Site) -> Any:
    done = site.gwctl("a", "status", "-o", "json")
    found = json.loads(done.stdout) if done.returncode == 0 else None
    return found if found and not found["published"]["from_disk"] else None


def test_a_torn_file_is_refused_and_postgresql_waited_for(site: Site) -> None:
    plane, api = site.plane("a"), site.addresses["a"][0]
    kept = site.directory / "a" / "snapshot"
    plane.kill9()
    site.postgres.stop()
    kept.write_bytes(kept.read_bytes()[:-100])
    log = len(plane.log.read_text())
    plane.spawn()
    until(lambda: "waiting_for_database" in plane.log.read_text()[log:], what="it waits")
    assert "kept_snapshot_refused" in plane.log.read_text()[log:]
    assert not ready(api)
    site.postgres.start()
    plane.wait_ready(30)


def test_r31_asked_to_stop_it_ends_its_streams_and_exits_with_0(site: Site, envoy: Process) -> None:
    plane = site.plane("a")
    began = time.monotonic()
    plane.stop(20)
    took = time.monotonic() - began
    record("R31", value=round(took, 1), passed=took <= 10 and plane.exit_status == 0, unit="s", case="control plane")
    assert plane.exit_status == 0
    assert took <= 15
    assert site.get("/echo").status_code == 200
