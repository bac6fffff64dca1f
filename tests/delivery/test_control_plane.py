"""The whole control plane: from a commit to all Envoys that serve it, and replicas that are restarted in turn."""

import http.client
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from gwctl import bootstrap
from gwctl.up.process import Process
from gwctl.up.services import get
from tests.ads import real_envoy as real
from tests.support import postgres
from tests.support.gateway import Gateway, free_port, until
from tests.support.loaded import loaded
from tests.support.results import record, size

CHANGES, EVERY = size("CHANGES", 60), 0.1
REQUESTS = size("RESTARTING_REQUESTS", 5_000)
ENVOYS = 3

DOCUMENT = """\
version: 1
listeners: {{http: {{port: 8080, access_log: none}}}}
tiers: {{free: {{unlimited: true}}}}
modules:
  m:
    tier: free
    listener: http
    hosts: ['*']
    authentication: none
    routes:
      edition: {{match: {{path: {{exact: /edition}}}}, respond: {{status: 200, body: '{edition}'}}}}
      load: {{match: {{path: {{exact: /load}}}}, respond: {{status: 200, body: ok}}}}
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """Not pytest's own directory: PostgreSQL's user may not enter that."""
    with tempfile.TemporaryDirectory(prefix="tollhouse-test-") as directory:
        yield Path(directory)


# --------------------------------------------------------------------------------------------- from commit to serving
class Watcher(threading.Thread):
    """One connection to one Envoy: when it first answered with each edition."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.seen: dict[int, float] = {}
        self.ended = threading.Event()
        self.ask()

    def ask(self) -> int:
        self.connection.request("GET", "/edition")
        return int(self.connection.getresponse().read())

    def run(self) -> None:
        while not self.ended.is_set():
            self.seen.setdefault(self.ask(), time.monotonic())
            time.sleep(0.002)
        self.connection.close()

    def served(self, edition: int) -> float:
        """When this one or a later one was there."""
        return min(at for number, at in self.seen.items() if number >= edition)


def connections(admin: str) -> int:
    """How many clients an Envoy has had."""
    stats = httpx.get(f"{admin}/stats?format=json&filter=^listener.*downstream_cx_total$").json()["stats"]
    return sum(stat["value"] for stat in stats if ".admin." not in stat["name"] and ".worker_" not in stat["name"])


def one_of_each(port: int, admins: list[str]) -> list[Watcher]:
    """All Envoys listen on one port: connect until there is a connection to each."""
    found: dict[int, Watcher] = {}
    for _ in range(100):
        before = [connections(admin) for admin in admins]
        watcher = Watcher(port)
        (which,) = (n for n, admin in enumerate(admins) if connections(admin) > before[n])
        if found.setdefault(which, watcher) is not watcher:
            watcher.connection.close()
        if len(found) == len(admins):
            return list(found.values())
    raise AssertionError("some Envoy gets no connections")


def test_r4_from_a_commit_to_all_envoys(home: Path) -> None:
    file = home / "routes.yaml"
    file.write_text(DOCUMENT.format(edition=0))
    gateway = Gateway(home / "state", file, options=("--no-demo", "--envoys", str(ENVOYS), "--concurrency", "1"))
    token = (home / "state" / "token").read_text().strip()
    begun, committed = {}, {}
    try:
        until(lambda: gateway.get("/edition").text == "0")
        watchers = one_of_each(gateway.port, list(gateway.up["envoy_admins"].values()))
        with (
            httpx.Client(base_url=gateway.up["control_api"], headers={"authorization": f"Bearer {token}"}) as api,
            loaded(gateway.port, "/load", 0.002) as outcome,
        ):
            for watcher in watchers:
                watcher.start()
            start = time.monotonic()
            for edition in range(1, CHANGES + 1):
                time.sleep(max(0.0, start + edition * EVERY - time.monotonic()))
                begun[edition] = time.monotonic()
                files = [{"name": "routes.yaml", "text": DOCUMENT.format(edition=edition)}]
                api.post("/v1/apply", json={"files": files}, timeout=30).raise_for_status()
                committed[edition] = time.monotonic()
            rate = CHANGES / (time.monotonic() - start)
            until(lambda: all(CHANGES in watcher.seen for watcher in watchers), what="all Envoys have the last one")
            for watcher in watchers:
                watcher.ended.set()
                watcher.join()
    finally:
        gateway.close()
    live = {edition: max(watcher.served(edition) for watcher in watchers) for edition in begun}
    after = sorted(max(0.0, live[edition] - at) for edition, at in committed.items())
    whole = sorted(live[edition] - at for edition, at in begun.items())
    p99 = after[int(0.99 * (len(after) - 1))]
    record(
        "R4",
        value=f"{p99:.3f}",
        passed=p99 <= 1.0 and outcome.failed == 0,
        unit="s p99 from the answer to apply to the last Envoy",
        p99_from_the_request=round(whole[int(0.99 * (len(whole) - 1))], 3),
        changes=CHANGES,
        changes_a_second=round(rate, 1),
        envoys=ENVOYS,
        requests=outcome.requests,
        failed=outcome.failed,
    )
    assert outcome.failed == 0, outcome.statuses
    assert p99 <= 5


# ------------------------------------------------------------------------------------------ replicas restarted in turn
class Replica(Process):
    """One of several control planes of one database."""

    def __init__(self, name: str, home: Path, database: str, listener: int) -> None:
        self.api, self.xds = free_port(), free_port()
        variables = {
            "TOLLHOUSE_DATABASE_URL": database,
            "TOLLHOUSE_PEPPER_FILE": str(home / "pepper"),
            "TOLLHOUSE_SECRETS_DIR": str(home / "secrets"),
            "TOLLHOUSE_TOKEN_FILE": str(home / "token"),
            "TOLLHOUSE_API_ADDRESS": f"127.0.0.1:{self.api}",
            "TOLLHOUSE_XDS_ADDRESS": f"127.0.0.1:{self.xds}",
            "TOLLHOUSE_XDS_REST_ADDRESS": f"127.0.0.1:{free_port()}",
            "TOLLHOUSE_LISTENER_PORTS": f"http={listener}",
        }
        super().__init__(
            name=name,
            command=[sys.executable, "-m", "gwctl", "serve", "control-plane"],
            log=home / f"{name}.log",
            ready=lambda: get(self.api, "/v1/status") is not None,
            environment={**os.environ, **variables},
            directory=Path.cwd(),
        )


@contextmanager
def envoy(home: Path, replicas: list[Replica]) -> Iterator[Process]:
    """One Envoy that knows all replicas."""
    admin = free_port()
    first, *others = [("127.0.0.1", replica.xds) for replica in replicas]
    config = bootstrap.render(bootstrap.Node("envoy-1", ("127.0.0.1", admin), first), bootstrap.template())
    (endpoints,) = config["static_resources"]["clusters"][0]["load_assignment"]["endpoints"]
    endpoints["lb_endpoints"] += [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}} for host, port in others
    ]
    (home / "envoy.json").write_text(json.dumps(config))
    flags = ["--use-dynamic-base-id", "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    process = Process(
        "envoy",
        [str(real.BINARY), "-c", str(home / "envoy.json"), *flags],
        home / "envoy.log",
        ready=lambda: get(admin, "/ready") == 200,
    )
    process.start()
    try:
        yield process
    finally:
        process.stop(10)


def test_r31_replicas_restarted_in_turn_under_load(home: Path) -> None:
    (home / "pepper").write_text("0123456789abcdef0123456789abcdef\n")
    port, exits, editions = free_port(), [], 0
    with ExitStack() as stack:
        database = stack.enter_context(postgres.server())
        replicas = [Replica(name, home, database.url, port) for name in ("one", "two")]
        for replica in replicas:
            replica.start()
            stack.callback(replica.stop, 20)
        token = (home / "token").read_text().strip()

        def apply(replica: Replica, edition: int) -> None:
            httpx.post(
                f"http://127.0.0.1:{replica.api}/v1/apply",
                json={"files": [{"name": "routes.yaml", "text": DOCUMENT.format(edition=edition)}]},
                headers={"authorization": f"Bearer {token}"},
                timeout=30,
            ).raise_for_status()

        def serves(edition: int) -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/edition").text == str(edition)
            except httpx.TransportError:
                return False

        apply(replicas[0], 0)
        stack.enter_context(envoy(home, replicas))
        until(lambda: serves(0), what="Envoy serves")
        began = time.monotonic()
        with loaded(port, "/load") as outcome:
            while editions < len(replicas) or time.monotonic() < began + REQUESTS / 2000:
                going, staying = replicas[editions % 2], replicas[1 - editions % 2]
                editions += 1
                going.stop(20)
                exits.append(going.exit_status)
                apply(staying, editions)
                until(lambda n=editions: serves(n), what="a change beside a replica that is away")  # type: ignore[misc]
                going.start()
    record(
        "R31",
        case="replicas in turn",
        value=outcome.failed,
        passed=outcome.failed == 0 and outcome.requests >= REQUESTS,
        unit="failed requests",
        requests=outcome.requests,
        restarts=editions,
    )
    assert outcome.failed == 0, outcome.statuses
    assert set(exits) == {0}
