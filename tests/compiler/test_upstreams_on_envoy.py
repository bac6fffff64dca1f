"""What the words of an upstream do on a real Envoy: who gets a request, who is taken out, and what is kept where."""

import json
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import httpx
import pytest
import yaml
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gwctl.up.process import free_port
from tests.support.upstream import Upstream

from .running import RunningGateway

OWN_ROUTES = {"retried", "no-budget"}


class Pinged(socketserver.ThreadingTCPServer):
    """Answers HTTP; and PONG to PING, unless it is `silent`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *, silent: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Pinged)
        self.silent = silent
        self.port = int(self.server_address[1])
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()


class _Pinged(socketserver.BaseRequestHandler):
    server: Pinged

    def handle(self) -> None:
        while asked := self.request.recv(4096):
            if asked != b"PING":
                self.request.sendall(b"HTTP/1.1 204 No Content\r\nx-port: %d\r\n\r\n" % self.server.port)
            elif not self.server.silent:
                self.request.sendall(b"well: PONG!")


class Ledger:
    """A gRPC server that says of `ledger.v1.Ledger` whether it serves, and of every call where it came to."""

    def __init__(self, status: Any) -> None:
        self.server = grpc.server(ThreadPoolExecutor(2))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        servicer = health.HealthServicer()
        servicer.set("ledger.v1.Ledger", status)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self.server)
        answering = grpc.unary_unary_rpc_method_handler(self._answer)
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("checked-grpc", {"Get": answering}),)
        )
        self.server.start()

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.send_initial_metadata((("x-port", str(self.port)),))
        return b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.server.stop(None).wait()


@dataclass
class Lab:
    gateway: RunningGateway
    ports: dict[str, int]
    sick: Upstream

    def ports_of(self, path: str, count: int = 20, **more: Any) -> Counter[str]:
        """Which servers answered, by their words, of `count` requests; `503` for none."""
        words = {str(port): word for word, port in self.ports.items()}
        found: Counter[str] = Counter()
        for _ in range(count):
            answer = self.gateway.client.get(path, **more)
            self.gateway.client.cookies.clear()
            found[words[answer.headers["x-port"]] if "x-port" in answer.headers else str(answer.status_code)] += 1
        return found

    def cluster(self, name: str) -> list[dict[str, Any]]:
        """The hosts of a cluster as Envoy's admin interface tells of them."""
        clusters = self.gateway.admin.get("/clusters?format=json").json()["cluster_statuses"]
        hosts: list[dict[str, Any]] = next(one for one in clusters if one["name"] == name)["host_statuses"]
        return hosts

    def configured(self, name: str) -> dict[str, Any]:
        dump = self.gateway.admin.get("/config_dump?resource=static_clusters").json()["configs"]
        found: dict[str, Any] = next(one["cluster"] for one in dump if one["cluster"]["name"] == name)
        return found


def with_routes(document: str) -> str:
    """A route for each upstream that has none of its own, at the path of its name."""
    gateway = yaml.safe_load(document)
    routes = gateway["modules"]["m"]["routes"]
    for name in gateway["upstreams"]:
        routes.setdefault(name, {"match": {"path": {"prefix": f"/{name}"}}, "backends": [{"upstream": name}]})
    return json.dumps(gateway)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    document = (Path(__file__).parent / "upstreams.yaml").read_text()
    status = health_pb2.HealthCheckResponse
    with ExitStack() as stack:
        sick = stack.enter_context(Upstream(status=503))
        ports = {"SICK": sick.port, "DEAD": free_port()}
        for word in ("ONE", "TWO"):
            ports[word] = stack.enter_context(Upstream()).port
        for word, silent in (("TALKS", False), ("SILENT", True)):
            ports[word] = stack.enter_context(Pinged(silent=silent)).port
        for word, serves in (("SERVING", status.SERVING), ("REFUSING", status.NOT_SERVING)):
            ports[word] = stack.enter_context(Ledger(serves)).port
        for word, port in ports.items():
            document = document.replace(word, str(port))
        directory = tmp_path_factory.mktemp("upstreams")
        gateway = stack.enter_context(RunningGateway(directory, with_routes(document), {}, zone="here"))
        yield Lab(gateway, ports, sick)


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_envoy_has_nothing_to_warn_of(lab: Lab) -> None:
    lines = [line for line in lab.gateway.log.read_text().splitlines() if "downstream connections" not in line]
    assert lines == []


# ------------------------------------------------------------------------------------------------- who gets a request
def test_round_robin_takes_turns(lab: Lab) -> None:
    assert lab.ports_of("/round-robin") == {"ONE": 10, "TWO": 10}


@pytest.mark.parametrize("policy", ["least-request", "random", "slow-start"])
def test_a_policy_spreads(lab: Lab, policy: str) -> None:
    assert set(lab.ports_of(f"/{policy}", 40)) == {"ONE", "TWO"}


@pytest.mark.parametrize("policy", ["ring_hash", "maglev"])
@pytest.mark.parametrize("kind", ["header", "cookie", "query"])
def test_a_hash_sticks(lab: Lab, policy: str, kind: str) -> None:
    used: set[str] = set()
    for account in map(str, range(12)):
        sent = {
            "header": {"headers": {"x-account": account}},
            "cookie": {"headers": {"cookie": f"account={account}"}},
            "query": {"params": {"account": account}},
        }[kind]
        found = lab.ports_of(f"/{policy}-{kind}", 3, **sent)
        assert len(found) == 1
        used |= set(found)
    assert used == {"ONE", "TWO"}


@pytest.mark.parametrize("policy", ["ring_hash", "maglev"])
def test_a_hash_of_the_callers_address_sticks(lab: Lab, policy: str) -> None:
    used: set[str] = set()
    for last in range(1, 13):
        transport = httpx.HTTPTransport(local_address=f"127.0.0.{last}")
        with httpx.Client(base_url=lab.gateway.url, transport=transport, timeout=20) as client:
            found = {client.get(f"/{policy}-ip").headers["x-port"] for _ in range(3)}
        assert len(found) == 1
        used |= found
    assert len(used) == 2


def test_what_is_not_there_to_hash_goes_anywhere(lab: Lab) -> None:
    assert set(lab.ports_of("/ring_hash-header", 40)) == {"ONE", "TWO"}


def test_a_cookie_with_a_time_to_live_is_made(lab: Lab) -> None:
    first = lab.gateway.client.get("/made-cookie")
    lab.gateway.client.cookies.clear()
    cookie = first.headers["set-cookie"]
    assert "Max-Age=3600" in cookie
    assert "Path=/made-cookie" in cookie
    assert "HttpOnly" in cookie
    found = lab.ports_of("/made-cookie", 6, headers={"cookie": cookie.partition(";")[0]})
    assert found == {name: 6 for name, port in lab.ports.items() if str(port) == first.headers["x-port"]}


@pytest.mark.parametrize("name", ["ring_hash-cookie", "round-robin"])
def test_other_cookies_are_not_made(lab: Lab, name: str) -> None:
    assert "set-cookie" not in lab.gateway.client.get(f"/{name}").headers


@pytest.mark.parametrize("carrier", ["cookie", "header"])
def test_a_session_stays_at_its_endpoint(lab: Lab, carrier: str) -> None:
    path = f"/session-{carrier}"
    first = lab.gateway.client.get(path)
    lab.gateway.client.cookies.clear()
    if carrier == "cookie":
        assert "Max-Age=3600" in first.headers["set-cookie"]
        sent = {"cookie": first.headers["set-cookie"].partition(";")[0]}
    else:
        sent = {"x-session-endpoint": first.headers["x-session-endpoint"]}
    word = next(name for name, port in lab.ports.items() if str(port) == first.headers["x-port"])
    assert lab.ports_of(path, 10, headers=sent) == {word: 10}
    assert set(lab.ports_of(path, 10)) == {"ONE", "TWO"}, "without it, they take turns"


def test_a_session_names_no_address_beyond_the_upstream(lab: Lab) -> None:
    """MTI3LjAuMC4xOjE= is 127.0.0.1:1."""
    found = lab.ports_of("/session-header", 10, headers={"x-session-endpoint": "MTI3LjAuMC4xOjE="})
    assert found == {"ONE": 5, "TWO": 5}


def test_zones_reach_envoy_and_its_own_is_preferred(lab: Lab) -> None:
    assert [host["locality"]["zone"] for host in lab.cluster("zoned")] == ["here", "here", "there", "there"]
    assert lab.ports_of("/zoned") == {"ONE": 10, "TALKS": 10}


def test_a_zone_with_one_endpoint_does_not_carry_it_all(lab: Lab) -> None:
    assert set(lab.ports_of("/thin-zone")) == {"ONE", "TWO"}


def test_slow_start_reaches_envoy(lab: Lab) -> None:
    (policy,) = lab.configured("slow-start")["load_balancing_policy"]["policies"]
    slow = policy["typed_extension_config"]["typed_config"]["slow_start_config"]
    assert (slow["slow_start_window"], slow["aggression"]["default_value"]) == ("5s", 2)


# -------------------------------------------------------------------------------------------------- who is taken out
def test_the_first_priority_gets_everything_while_it_is_up(lab: Lab) -> None:
    assert lab.ports_of("/first") == {"TWO": 20}


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("failed-over", "ONE"),
        ("checked-http", "ONE"),
        ("checked-tcp", "ONE"),
        ("checked-text", "TALKS"),
    ],
)
def test_a_health_check_takes_a_bad_endpoint_out(lab: Lab, name: str, good: str) -> None:
    until(lambda: lab.ports_of(f"/{name}", 4) == {good: 4}, f"only {good} is left")
    assert lab.ports_of(f"/{name}") == {good: 20}


def test_a_grpc_health_check_takes_a_bad_endpoint_out(lab: Lab) -> None:
    headers = {"content-type": "application/grpc", "te": "trailers"}

    def asked() -> str:
        answer = lab.gateway.client.post("/checked-grpc/Get", content=b"\0\0\0\0\0", headers=headers)
        return str(answer.headers.get("x-port"))

    serving = str(lab.ports["SERVING"])
    until(lambda: {asked() for _ in range(4)} == {serving}, "only the serving one is left")
    assert {asked() for _ in range(10)} == {serving}


@pytest.mark.parametrize("name", ["ejected", "ejected-gateway", "ejected-local"])
def test_an_outlier_is_ejected(lab: Lab, name: str) -> None:
    before = lab.ports_of(f"/{name}", 4)
    assert before["ONE"] == 2
    until(lambda: lab.ports_of(f"/{name}", 4) == {"ONE": 4}, "only the good one is left")
    ejected = [host["health_status"].get("failed_outlier_check", False) for host in lab.cluster(name)]
    assert ejected == [False, True]


def test_a_full_circuit_answers_503_at_once(lab: Lab) -> None:
    def asked(_: int) -> int:
        return httpx.get(f"{lab.gateway.url}/open-circuit?delay=1", timeout=20).status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(asked, range(4))) == {200, 503}
    assert lab.gateway.client.get("/open-circuit").status_code == 200


@pytest.mark.parametrize(("name", "tries"), [("retried", 3), ("no-budget", 1)])
def test_a_retry_needs_a_budget(lab: Lab, name: str, tries: int) -> None:
    before = len(lab.sick.seen)
    assert lab.gateway.client.get(f"/{name}").status_code == 503
    seen = [one for one in lab.sick.seen[before:] if one["path"] == f"/{name}"]
    assert len(seen) == tries


def test_connections_end_after_their_requests(lab: Lab) -> None:
    assert lab.ports_of("/short-lived", 5) == {"ONE": 5}
    stats = lab.gateway.admin.get("/stats?filter=cluster.short-lived.upstream_cx_total").text
    assert stats.split() == ["cluster.short-lived.upstream_cx_total:", "5"]


def test_a_service_without_endpoints_answers_503(lab: Lab) -> None:
    assert lab.gateway.client.get("/nobody").status_code == 503
