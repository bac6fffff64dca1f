"""What routes match and what happens to what they send on, on a real Envoy: every word of docs/language/routing.md."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import Server, ServerConnection, serve

from tests.support.gateway import until
from tests.support.upstream import Upstream

from .running import KEY, RunningGateway, claims

GRPC = "application/grpc"


class Calls(ThreadingHTTPServer):
    """Answers every call with the gRPC status UNAVAILABLE, and counts them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Unavailable)
        self.count = 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


class _Unavailable(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Calls

    def do_POST(self) -> None:
        self.server.count += 1
        self.send_response(200)
        for name, value in (("content-type", GRPC), ("grpc-status", "14"), ("content-length", "0")):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Upstreams:
    """Each by the word that stands for its port in `routes.yaml`."""

    def __init__(self, stack: ExitStack) -> None:
        self.echo, self.other, self.slow, self.lab = (stack.enter_context(Upstream()) for _ in range(4))
        self.bad = stack.enter_context(Upstream(status=500))
        self.calls = Calls()
        stack.callback(self.calls.server_close)
        stack.callback(self.calls.shutdown)
        self.socket = stack.enter_context(serve(_echo_once, "127.0.0.1", 0))
        threading.Thread(target=self.socket.serve_forever, daemon=True).start()

    @property
    def ports(self) -> dict[str, int]:
        found = {"ECHO": self.echo, "OTHER": self.other, "SLOW": self.slow, "LAB": self.lab, "BAD": self.bad}
        ports = {word: upstream.port for word, upstream in found.items()}
        return ports | {"CALLS": int(self.calls.server_address[1]), "SOCKET": port_of(self.socket)}


def _echo_once(connection: ServerConnection) -> None:
    connection.send(connection.recv())


def port_of(server: Server) -> int:
    return int(server.socket.getsockname()[1])


@pytest.fixture(scope="module")
def upstreams() -> Iterator[Upstreams]:
    with ExitStack() as stack:
        yield Upstreams(stack)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstreams: Upstreams) -> Iterator[RunningGateway]:
    document = (Path(__file__).parent / "routes.yaml").read_text()
    with RunningGateway(tmp_path_factory.mktemp("routes"), document, upstreams.ports) as running:
        yield running


def token() -> str:
    return jwt.encode(claims(), KEY)


def test_everything_compiled_and_envoy_has_nothing_to_warn_of(gateway: RunningGateway) -> None:
    assert gateway.compiled.problems == ()
    lines = [line for line in gateway.log.read_text().splitlines() if "downstream connections" not in line]
    assert lines == []


# ------------------------------------------------------------------------------------------------------ what matches
@pytest.mark.parametrize(
    ("path", "cookie", "body"),
    [
        ("/cookie", None, "none"),
        ("/cookie", "canary=yes", "exact"),
        ("/cookie", "a=1; canary=yes; b=2", "exact"),
        ("/cookie", "a=1;canary=yes", "exact"),
        ("/cookie", "canary=no; canary=yes", "exact"),
        ("/cookie", "xcanary=yes", "none"),
        ("/cookie", "x=canary=yes", "none"),
        ("/cookie", "canary=yes1", "none"),
        ("/cookie", "canary=", "none"),
        ("/cookie", "CANARY=yes", "none"),
        ("/cookie", "prefix=a.bcd", "prefix"),
        ("/cookie", "prefix=axbcd", "none"),
        ("/cookie", "pattern=v1; mark=1", "pattern"),
        ("/cookie", "mark=1; pattern=v1", "pattern"),
        ("/cookie", "pattern=v; mark=1", "none"),  # `.+` does not reach over into the next cookie
        ("/cookie", "pattern=v1", "none"),
        ("/no-cookie", None, "absent"),
        ("/no-cookie", "a=1; xgone=1", "absent"),
        ("/no-cookie", "a=1; gone=", None),
        ("/maybe-cookie", None, "maybe"),
        ("/maybe-cookie", "a=b", "maybe"),
        ("/maybe-cookie", "a=b; maybe=1", "maybe"),
        ("/maybe-cookie", "maybe=2", None),
    ],
)
def test_cookies(gateway: RunningGateway, path: str, cookie: str | None, body: str | None) -> None:
    answer = gateway.client.get(path, headers={"cookie": cookie} if cookie is not None else {})
    assert (answer.text if answer.status_code == 200 else None) == body


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("/shop.v1.Orders/Get", "application/json", "page"),
        ("/shop.v1.Orders/Get", "text/application/grpc", "page"),
        ("/shop.v1.Orders", None, "page"),
    ],
)
def test_what_is_no_grpc_call_is_not_taken_for_one(
    gateway: RunningGateway, path: str, content_type: str | None, body: str
) -> None:
    answer = gateway.client.post(path, headers={"content-type": content_type} if content_type else {})
    assert answer.text == body


@pytest.mark.parametrize("content_type", [GRPC, f"{GRPC}+proto"])
def test_grpc_methods(gateway: RunningGateway, upstreams: Upstreams, content_type: str) -> None:
    headers = {"content-type": content_type}
    own = gateway.client.post("/shop.v1.Orders/Get", headers=headers)
    assert "grpc-status" in own.headers, "Envoy answers a call in its own language"
    upstreams.slow.seen.clear()
    assert gateway.client.post("/shop.v1.Orders/List", headers=headers).status_code == 200
    assert [seen["path"] for seen in upstreams.slow.seen] == ["/shop.v1.Orders/List"]


# ----------------------------------------------------------------------------------------------------------- rewrites
@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/exact/some/where?a=/b", "/a\\b?a=/b"),
        ("/api.v1", "/v1"),
        ("/api.v1/x?y=1", "/v1/x?y=1"),
        ("/strip", "/"),
        ("/strip/", "/"),
        ("/strip/x/strip", "/x/strip"),
        ("/strip?x", "/?x"),
        ("/items/7/parts/a/b?c=d", "/parts/a/b/of/7?c=d"),
        ("/export/24/x/y?z=1", "/x/y/24?z=1"),
    ],
)
def test_paths_are_rewritten(gateway: RunningGateway, path: str, seen: str) -> None:
    assert gateway.client.get(path).json()["path"] == seen


@pytest.mark.parametrize("path", ["/api_v1", "/api.v1x", "/stripx", "/strip../secure"])
def test_a_prefix_that_is_no_whole_segment_is_not_replaced(gateway: RunningGateway, path: str) -> None:
    assert gateway.raw(path.encode()) == 404


@pytest.mark.parametrize(("path", "host"), [("/host", "u.example.com"), ("/auto-host", "localhost")])
def test_hosts_are_rewritten(gateway: RunningGateway, path: str, host: str) -> None:
    assert gateway.client.get(path, headers={"host": "asked.example.com"}).json()["headers"]["host"] == host


def test_redirects_by_regex(gateway: RunningGateway) -> None:
    answer = gateway.client.get("/old/a/b?c=1")
    assert answer.status_code == 302
    assert answer.headers["location"] == f"{gateway.url}/new/a/b?c=1"


# --------------------------------------------------------------------------------------------------- where it is sent
def test_mirrors_get_their_share(gateway: RunningGateway, upstreams: Upstreams) -> None:
    upstreams.lab.seen.clear()
    for _ in range(60):
        assert gateway.client.get("/not-mirrored").status_code == 200
        assert gateway.client.get("/half-mirrored").status_code == 200
    assert gateway.client.get("/mirrored", headers={"host": "api.example.com"}).status_code == 200
    until(lambda: any(seen["path"] == "/mirrored" for seen in upstreams.lab.seen))
    paths = [seen["path"] for seen in upstreams.lab.seen]
    assert "/not-mirrored" not in paths
    assert 10 <= paths.count("/half-mirrored") <= 50
    mirrored = next(seen for seen in upstreams.lab.seen if seen["path"] == "/mirrored")
    assert mirrored["headers"]["host"] == "api.example.com"


def test_headers_of_one_backend_are_edited_last(gateway: RunningGateway) -> None:
    answer = gateway.client.get("/edited")
    assert answer.json()["headers"]["x-to"] == "echo"
    assert answer.headers["x-from"] == "100%"
    assert "x-powered-by" not in answer.headers


def test_canaries_by_weight_and_by_header(gateway: RunningGateway) -> None:
    def sent_to(**headers: str) -> str:
        return str(gateway.request("/split", **headers).json()["headers"]["x-to"])

    assert {sent_to() for _ in range(40)} == {"echo", "other"}
    assert {sent_to(x_canary="1") for _ in range(10)} == {"chosen"}


# --------------------------------------------------------------------------------------------------------- websockets
def websocket(gateway: RunningGateway, path: str, headers: dict[str, str] | None = None) -> str:
    """What comes back for a message; InvalidStatus when the upgrade is refused."""
    with connect(f"{gateway.url.replace('http', 'ws')}{path}", additional_headers=headers, proxy=None) as connection:
        connection.send("hello")
        return str(connection.recv(timeout=20))


def test_websockets_where_they_are_asked_for(gateway: RunningGateway) -> None:
    assert websocket(gateway, "/socket") == "hello"


def test_an_upgraded_route_is_guarded_like_any_other(gateway: RunningGateway) -> None:
    with pytest.raises(InvalidStatus) as refused:
        websocket(gateway, "/guarded/socket")
    assert refused.value.response.status_code == 401
    assert websocket(gateway, "/guarded/socket", {"authorization": f"Bearer {token()}"}) == "hello"


def test_other_routes_refuse_to_upgrade(gateway: RunningGateway) -> None:
    with pytest.raises(InvalidStatus) as refused:
        websocket(gateway, "/no-socket")
    assert refused.value.response.status_code == 403


# --------------------------------------------------------------------------------------------------- timeouts, retries
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/request-timeout", 504),
        ("/stream-timeout", 504),
        ("/idle-timeout", 504),
        ("/try-timeout", 504),
        ("/try-idle", 504),
    ],
)
def test_timeouts(gateway: RunningGateway, path: str, status: int) -> None:
    assert gateway.client.get(f"{path}?delay=0").status_code == 200
    assert gateway.client.get(f"{path}?delay=3").status_code == status


def test_a_grpc_caller_may_be_in_more_of_a_hurry_than_the_route(gateway: RunningGateway) -> None:
    headers = {"content-type": GRPC, "grpc-timeout": "200m"}
    answer = gateway.client.post("/shop.v1.Orders/List?delay=1.5", headers=headers)
    assert answer.headers["grpc-status"] == "4"
    patient = gateway.client.post("/shop.v1.Orders/List?delay=0.5", headers=headers | {"grpc-timeout": "1H"})
    assert "grpc-status" not in patient.headers


@pytest.mark.parametrize(
    ("method", "path", "tries"),
    [
        ("GET", "/inherited?status=409", 2),
        ("POST", "/inherited?status=409", 1),
        ("POST", "/own?status=404", 3),
        ("POST", "/own?status=409", 3),
        ("POST", "/own?status=500", 3),
        ("POST", "/own?status=400", 1),
    ],
)
def test_what_is_tried_again(gateway: RunningGateway, upstreams: Upstreams, method: str, path: str, tries: int) -> None:
    upstreams.echo.seen.clear()
    gateway.client.request(method, path)
    assert len(upstreams.echo.seen) == tries


def test_grpc_statuses_are_tried_again(gateway: RunningGateway, upstreams: Upstreams) -> None:
    upstreams.calls.count = 0
    assert gateway.client.post("/unavailable", headers={"content-type": GRPC}).headers["grpc-status"] == "14"
    assert upstreams.calls.count == 3
    gateway.client.post("/internal", headers={"content-type": GRPC})
    assert upstreams.calls.count == 4


def test_another_try_goes_to_another_endpoint(gateway: RunningGateway) -> None:
    assert {gateway.client.get("/elsewhere").status_code for _ in range(10)} == {200}


# ------------------------------------------------------------------------------------------------------ raw overrides
def test_raw_overrides_count(gateway: RunningGateway) -> None:
    assert gateway.client.get("/host").headers["via"] == "raw"
    answer = gateway.request("/guarded/raw", token=token())
    assert answer.headers["x-raw"] == "1"


def test_a_raw_override_opens_no_route(gateway: RunningGateway) -> None:
    assert gateway.client.get("/guarded/raw").status_code == 401
