"""What routes turn on, on a real Envoy: csrf, gRPC-Web, faults, buffering, bandwidth, compression, and local limits."""

import gzip
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
import httpx
import jwt
import pytest

from gwctl.up.process import free_port
from tests.support.upstream import Upstream

from .running import KEY, RunningGateway, claims


class _Sized(BaseHTTPRequestHandler):
    """Answers `?size=` bytes of `?type=`, as if encoded in `?encoding=`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        body = b"x" * int(query.get("size", 1000))
        self.send_response(int(query.get("status", 200)))
        self.send_header("content-type", query.get("type", "application/json; charset=utf-8"))
        self.send_header("content-length", str(len(body)))
        if "encoding" in query:
            self.send_header("content-encoding", query["encoding"])
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - http.server's name

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def sized() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Sized) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def echo() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def grpc_port() -> int:
    """A port for the gRPC server, which each test that needs one starts in its own loop."""
    return free_port()


@pytest.fixture
async def grpc_echo(grpc_port: int) -> AsyncIterator[None]:
    async def reverse(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata((("x-seen", "yes"),))
        return request[::-1]

    server = grpc.aio.server()
    methods = {"Call": grpc.unary_unary_rpc_method_handler(reverse)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await server.start()
    yield
    await server.stop(None)


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, echo: Upstream, sized: int, grpc_port: int
) -> Iterator[RunningGateway]:
    document = (Path(__file__).parent / "traffic.yaml").read_text()
    ports = {"ECHO": echo.port, "SIZED": sized, "GRPC": grpc_port}
    with RunningGateway(tmp_path_factory.mktemp("traffic"), document, ports) as running:
        yield running


def token(**more: Any) -> str:
    return jwt.encode(claims(**more), KEY)


def test_envoy_has_nothing_to_warn_of(gateway: RunningGateway) -> None:
    lines = [line for line in gateway.log.read_text().splitlines() if "downstream connections" not in line]
    assert lines == []
    assert gateway.compiled.problems == ()


# --------------------------------------------------------------------------------------------------------------- csrf
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("https://app.example.com.evil.example", 403),
        ("https://partner.example.com", 403),
        ("null", 403),
        (None, 403),
        ("https://app.example.com", 200),
        ("https://a.b.partner.example.com", 200),
        ("http://localhost:3000", 200),
        ("https://api.example.com", 200),
    ],
)
def test_changes_come_from_pages_of_this_host_or_a_trusted_one(
    gateway: RunningGateway, origin: str | None, status: int
) -> None:
    headers = {"host": "api.example.com"} | ({"origin": origin} if origin else {})
    assert gateway.client.post("/inherits", headers=headers).status_code == status


def test_reading_and_routes_without_csrf_take_any_origin(gateway: RunningGateway) -> None:
    assert gateway.request("/inherits", origin="https://evil.example").status_code == 200
    assert gateway.request("/off", "POST", origin="https://evil.example").status_code == 200


# -------------------------------------------------------------------------------------------------------- compression
@pytest.mark.parametrize(
    ("path", "accepted", "encoding"),
    [
        ("/inherits", "gzip, br, zstd", "br"),
        ("/inherits", "gzip", "gzip"),
        ("/inherits", "zstd", "zstd"),
        ("/inherits", "br;q=0.1, gzip", "gzip"),
        ("/inherits", "identity", None),
        ("/inherits?size=100", "gzip", None),
        ("/inherits?type=image/png", "gzip", None),
        ("/inherits?status=206", "gzip", None),
        ("/inherits?encoding=custom", "gzip", "custom"),
        ("/only-gzip", "br, zstd", None),
        ("/only-gzip", "br, gzip;q=0.5", "gzip"),
        ("/only-text", "gzip", None),
        ("/only-text?type=text/plain&size=60", "gzip", "gzip"),
        ("/large-only", "gzip", None),
        ("/off", "gzip, br, zstd", None),
    ],
)
def test_what_is_compressed(gateway: RunningGateway, path: str, accepted: str, encoding: str | None) -> None:
    with gateway.client.stream("GET", path, headers={"accept-encoding": accepted}) as answer:
        assert answer.headers.get("content-encoding") == encoding
        raw = b"".join(answer.iter_raw())
    if encoding == "gzip":
        assert gzip.decompress(raw).strip(b"x") == b""
        assert answer.headers["vary"].lower() == "accept-encoding"


# -------------------------------------------------------------------------------------------------------------- faults
def test_a_request_is_delayed_on_purpose(gateway: RunningGateway) -> None:
    started = time.monotonic()
    assert gateway.request("/delay").status_code == 200
    assert time.monotonic() - started >= 0.3


def test_a_request_fails_on_purpose(gateway: RunningGateway, echo: Upstream) -> None:
    before = len(echo.seen)
    answer = gateway.request("/abort")
    assert (answer.status_code, answer.json()["status"]) == (418, 418)
    assert len(echo.seen) == before


def test_a_share_of_the_requests_fails(gateway: RunningGateway) -> None:
    assert {gateway.request("/half").status_code for _ in range(40)} == {200, 503}
    assert {gateway.request("/never").status_code for _ in range(20)} == {200}


def test_strangers_meet_no_fault(gateway: RunningGateway) -> None:
    assert gateway.request("/fault-behind").status_code == 401
    assert gateway.request("/fault-behind", token=token()).status_code == 418


# ---------------------------------------------------------------------------------------------- buffering, bandwidth
def test_a_body_that_is_too_long_reaches_no_upstream(gateway: RunningGateway, echo: Upstream) -> None:
    assert gateway.client.post("/buffer", content=b"x" * 102_400).status_code == 200
    before = len(echo.seen)
    answer = gateway.client.post("/buffer", content=b"x" * 102_401)
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    assert len(echo.seen) == before


def test_a_buffered_body_is_sent_on_with_its_length(gateway: RunningGateway) -> None:
    chunks = (b"x" * 1000 for _ in range(5))
    headers = gateway.client.post("/buffer", content=chunks).json()["headers"]
    assert headers["content-length"] == "5000"


def test_answers_are_slowed_down(gateway: RunningGateway) -> None:
    started = time.monotonic()
    assert len(gateway.client.get("/slow-response?size=45000").content) == 45_000
    assert time.monotonic() - started >= 0.7  # 44 KiB at 20 KiB/s, the first second's tokens at once


def test_requests_are_slowed_down(gateway: RunningGateway) -> None:
    started = time.monotonic()
    assert gateway.client.post("/slow-request", content=b"x" * 45_000).status_code == 200
    assert time.monotonic() - started >= 0.7


# ------------------------------------------------------------------------------------------------------------ gRPC-Web
async def call(gateway: RunningGateway, method: str, message: bytes) -> httpx.Response:
    frame = b"\0" + len(message).to_bytes(4) + message
    headers = {"content-type": "application/grpc-web+proto", "accept": "application/grpc-web+proto", "x-grpc-web": "1"}
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
        return await client.post(method, content=frame, headers=headers)


@pytest.mark.usefixtures("grpc_echo")
async def test_a_page_calls_a_grpc_method(gateway: RunningGateway) -> None:
    answer = await call(gateway, "/test.Echo/Call", b"abc")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/grpc-web+proto"
    assert answer.headers["x-seen"] == "yes"
    assert answer.content.startswith(b"\0\0\0\0\3cba\x80")
    assert b"grpc-status:0" in answer.content


@pytest.mark.usefixtures("grpc_echo")
async def test_a_page_reads_the_status_of_a_refused_call(gateway: RunningGateway) -> None:
    answer = await call(gateway, "/test.Closed/Call", b"abc")
    assert answer.headers["grpc-status"] == "16"  # UNAUTHENTICATED
    answer = await call(gateway, "/test.Echo/Missing", b"abc")
    assert answer.headers["grpc-status"] == "12"  # UNIMPLEMENTED


# -------------------------------------------------------------------------------------------------------- local limits
def statuses(gateway: RunningGateway, path: str, times: int, **more: Any) -> list[int]:
    return [gateway.request(path, **more).status_code for _ in range(times)]


def test_a_local_limit_is_exact(gateway: RunningGateway) -> None:
    assert statuses(gateway, "/by-ip", 5) == [200, 200, 200, 429, 429]
    assert statuses(gateway, "/same-rate", 4) == [200, 200, 200, 429], "each route counts by itself"


def test_a_refusal_says_when_to_come_back(gateway: RunningGateway) -> None:
    statuses(gateway, "/two", 2)
    answer = gateway.request("/two")
    assert answer.status_code == 429
    assert answer.json()["title"] == "Too Many Requests"
    assert answer.headers["x-ratelimit-limit"] == "2"
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert 0 < int(answer.headers["x-ratelimit-reset"]) <= 1800
    assert answer.headers["retry-after"] == answer.headers["x-ratelimit-reset"]


def test_costs_and_bursts(gateway: RunningGateway) -> None:
    assert statuses(gateway, "/cost", 3) == [200, 200, 429]
    assert statuses(gateway, "/burst", 5) == [200, 200, 200, 200, 429]


def test_routes_that_answer_themselves_are_limited_too(gateway: RunningGateway) -> None:
    assert statuses(gateway, "/responds", 2) == [200, 429]


def test_callers_are_counted_one_by_one(gateway: RunningGateway) -> None:
    for name in ("alice", "bob"):
        assert statuses(gateway, "/by-client", 3, token=token(sub=name)) == [200, 200, 429]
    assert statuses(gateway, "/by-claim", 3, token=token(sub="alice", org="acme")) == [200, 200, 429]
    assert statuses(gateway, "/by-claim", 1, token=token(sub="bob", org="acme")) == [429]
    assert statuses(gateway, "/by-claim", 1, token=token(sub="bob", org="globex")) == [200]
    assert statuses(gateway, "/by-claim", 3, token=token()) == [200, 200, 429], "without the claim: one bucket"


def test_refused_callers_are_not_counted(gateway: RunningGateway) -> None:
    statuses(gateway, "/by-client", 5)
    assert statuses(gateway, "/by-client", 2, token=token(sub="carol")) == [200, 200]
