"""The response cache on a real Envoy, with the real decision service and a real Valkey."""

import gzip
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import yaml

from gateway.model import decode
from gwctl.up.valkey import Valkey

from .real_decisions import RealDecisions
from .running import RunningGateway

DOCUMENT = Path(__file__).with_name("cache.yaml").read_text()


class _Origin(BaseHTTPRequestHandler):
    """Answers how often it was asked for the path. `?h-NAME=` are headers; `size`, `status`, `etag` as they say."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _answer(self) -> None:
        server: Any = self.server
        where = urlsplit(self.path)
        query = dict(parse_qsl(where.query))
        self.rfile.read(int(self.headers.get("content-length", 0)))
        server.asked[where.path] += 1
        head = f"{server.asked[where.path]}\n".encode()
        body = head + b"x" * max(0, int(query.get("size", 0)) - len(head))
        status = int(query.get("status", 200))
        if "etag" in query and self.headers.get("if-none-match") == query["etag"]:
            status, body = 304, b""
        self.send_response(status)
        self.send_header("content-type", "text/plain; charset=utf-8")
        for name, value in query.items():
            if name.startswith("h-"):
                self.send_header(name.removeprefix("h-"), value)
        if "etag" in query:
            self.send_header("etag", query["etag"])
        if "chunked" in query:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for start in range(0, len(body), 10_000):
                piece = body[start : start + 10_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_OPTIONS = _answer  # noqa: N815 - http.server's names

    def log_message(self, *_: Any) -> None:
        pass


class Origin(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Origin)
        self.asked: Counter[str] = Counter()
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory = tmp_path_factory.mktemp("cache")
    valkey = Valkey(directory / "valkey")
    valkey.start()
    with ExitStack() as stack, Origin() as origin, RealDecisions(directory, valkey.url) as decisions:
        stack.callback(valkey.stop)
        decisions.view(decode(yaml.safe_load(DOCUMENT.replace("UPSTREAM", str(origin.port)))))
        to = (("127.0.0.1", decisions.port),)
        with RunningGateway(directory, DOCUMENT, {"UPSTREAM": origin.port}, decisions=to) as gateway:
            yield SimpleNamespace(
                gateway=gateway, origin=origin, decisions=decisions, valkey=valkey, log=gateway.log, asked=origin.asked
            )
        origin.shutdown()


def get(rig: Any, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    answer: httpx.Response = rig.gateway.request(path, method, **headers)
    rig.gateway.client.cookies.clear()  # whoever sends a cookie has credentials
    return answer


def twice(rig: Any, path: str, **headers: str) -> tuple[httpx.Response, httpx.Response]:
    return get(rig, path, **headers), get(rig, path, **headers)


def hit(answer: httpx.Response) -> bool:
    return "age" in answer.headers


def test_the_second_answer_is_the_first_one(rig: Any) -> None:
    first, second = twice(rig, "/plain/a?size=5000&h-x-own=a&h-x-own-two=b")
    assert (first.status_code, hit(first), hit(second)) == (200, False, True)
    assert (rig.asked["/plain/a"], first.content) == (1, second.content)
    of_this_exchange = {"age", "content-length", "transfer-encoding", "x-request-id"}
    kept = [(n, v) for n, v in first.headers.multi_items() if n not in of_this_exchange]
    assert sorted(kept) == sorted((n, v) for n, v in second.headers.multi_items() if n not in of_this_exchange)
    assert second.headers["x-edited"] == "yes"
    assert second.headers.get_list("x-added") == ["100%"]
    assert second.headers["content-length"] == "5000"
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert int(second.headers["age"]) < 60


def test_what_selects_an_answer(rig: Any) -> None:
    for path, headers in (
        ("/plain/s?q=1", {}),
        ("/plain/s?q=2", {}),
        ("/plain/s?q=1&", {}),
        ("/plain/s?q=1", {"host": "other.example.com"}),
        ("/plain/s?q=1", {"x_other": "1"}),
        ("/plain/S?q=1", {}),
    ):
        assert not hit(get(rig, path, **headers)), (path, headers)
        assert hit(get(rig, path, **headers)), (path, headers)


def test_headers_that_select(rig: Any) -> None:
    for language in ("de", "en"):
        first, second = twice(rig, "/languages", accept_language=language)
        assert (hit(first), hit(second), first.text) == (False, True, second.text)
    assert rig.asked["/languages"] == 2
    for kind in ("a", "b"):
        first, second = twice(rig, "/plain/v?h-vary=X-Kind", x_kind=kind)
        assert (hit(first), hit(second)) == (False, True)
    assert not any(map(hit, twice(rig, "/plain/star?h-vary=*")))


@pytest.mark.parametrize(
    "said",
    [
        "h-cache-control=no-store",
        "h-cache-control=private",
        "h-cache-control=max-age=0",
        "h-set-cookie=a=b",
        "status=500",
        "status=404",
        "status=302",
        "h-expires=0",
    ],
)
def test_what_is_not_kept(rig: Any, said: str) -> None:
    first, second = twice(rig, f"/plain/not?{said}")
    assert not hit(first)
    assert not hit(second)
    assert first.status_code == second.status_code


def test_what_a_request_may_ask(rig: Any) -> None:
    twice(rig, "/plain/ask")
    for headers in ({"cache_control": "no-cache"}, {"cache_control": "no-store"}, {"range": "bytes=0-1"}):
        assert not hit(get(rig, "/plain/ask", **headers)), headers
    assert hit(get(rig, "/plain/ask"))
    tag = '"v1"'
    url = f"/plain/tagged?etag={tag}"
    first = get(rig, url)
    unchanged = get(rig, url, if_none_match='W/"v1"')
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", first.headers["etag"])
    assert hit(unchanged)
    assert "content-type" not in unchanged.headers
    assert rig.asked["/plain/tagged"] == 1
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    dated = f"/plain/dated?h-last-modified={date}"
    twice(rig, dated)
    assert get(rig, dated, if_modified_since=date).status_code == 304


def test_head_is_answered_from_get(rig: Any) -> None:
    assert not hit(get(rig, "/plain/head?size=300", "HEAD"))
    assert not hit(get(rig, "/plain/head?size=300"))
    answer = get(rig, "/plain/head?size=300", "HEAD")
    assert (hit(answer), answer.content, answer.headers["content-length"]) == (True, b"", "300")


def test_a_change_makes_it_forget(rig: Any) -> None:
    twice(rig, "/plain/changed")
    assert get(rig, "/plain/changed", "POST").status_code == 200
    assert not hit(get(rig, "/plain/changed"))
    twice(rig, "/languages/changed", accept_language="de")
    get(rig, "/languages/changed", "POST")
    assert not hit(get(rig, "/languages/changed", accept_language="de"))


def test_time_passes(rig: Any) -> None:
    first, second = twice(rig, "/short?h-cache-control=max-age=600")
    assert (hit(first), hit(second)) == (False, True)
    deadline = time.monotonic() + 10
    while hit(get(rig, "/short?h-cache-control=max-age=600")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_sizes(rig: Any) -> None:
    for how in ("", "&chunked=1"):
        small, again = twice(rig, f"/small/fits?size=1024{how}")
        assert (hit(small), hit(again), len(again.content)) == (False, True, 1024)
        for size, path in ((1025, "/small/long"), (3_000_000, "/large/long")):
            first, second = twice(rig, f"{path}?size={size}{how}")
            assert not hit(second)
            assert len(first.content) == len(second.content) == size
            assert second.content.strip(b"x").strip().isdigit()
        first, second = twice(rig, f"/large/fits?size=1000000{how}")
        assert hit(second)
        assert first.content == second.content
        assert len(second.content) == 1_000_000


def test_one_callers_answer_never_reaches_another(rig: Any) -> None:
    ann, bob = rig.decisions.keys.make("ann"), rig.decisions.keys.make("bob")
    assert get(rig, "/mine/plain").status_code == 401
    answers = [get(rig, "/mine/plain", x_api_key=key) for key in (ann, bob, ann, bob)]
    assert [one.status_code for one in answers] == [200] * 4
    assert not any(map(hit, answers))
    assert len({one.text for one in answers}) == 4
    for word in ("public", "s-maxage=60", "must-revalidate"):
        url = f"/mine/{word.split('=')[0]}?h-cache-control={word}"
        assert not hit(get(rig, url, x_api_key=ann))
        assert hit(get(rig, url, x_api_key=bob))
        refused = get(rig, url)
        assert (refused.status_code, hit(refused)) == (401, False)


@pytest.mark.parametrize("name", ["authorization", "cookie"])
def test_credentials_on_an_open_route(rig: Any, name: str) -> None:
    path = f"/plain/with-{name}"
    assert not any(map(hit, twice(rig, path, **{name: "a=b"})))
    assert [hit(one) for one in twice(rig, path)] == [False, True]
    assert not hit(get(rig, path, **{name: "a=b"}))
    first, second = twice(rig, f"{path}?h-cache-control=public", **{name: "a=b"})
    assert (hit(first), hit(second)) == (False, True)


def test_a_client_cannot_write_the_terms(rig: Any) -> None:
    forged = '{"route":"known/mine","ttl":600000,"max_size":9,"vary_by":[],"guarded":false}'
    assert [hit(one) for one in twice(rig, "/plain/forged", tollhouse_cache=forged)] == [False, True]
    assert not any(map(hit, twice(rig, "/uncached", tollhouse_cache=forged)))
    assert hit(get(rig, "/plain/forged"))


def test_compression_and_cors_are_of_each_request(rig: Any) -> None:
    origin = "https://app.example.com"
    url = "/packed?size=5000"
    plain = get(rig, url, accept_encoding="identity")
    with rig.gateway.client.stream("GET", url, headers={"accept-encoding": "gzip", "origin": origin}) as packed:
        raw = b"".join(packed.iter_raw())
    assert (hit(plain), hit(packed), packed.headers["content-encoding"]) == (False, True, "gzip")
    assert gzip.decompress(raw) == plain.content
    assert packed.headers["access-control-allow-origin"] == origin
    again = get(rig, url, accept_encoding="identity")
    assert hit(again)
    assert "content-encoding" not in again.headers
    assert "access-control-allow-origin" not in again.headers


def test_an_upgrade_passes_by(rig: Any) -> None:
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec_websocket_key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert not any(map(hit, twice(rig, "/socket", **upgrade)))


def test_many_at_once(rig: Any) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: get(rig, f"/plain/many?n={n % 10}&size=2000"), range(300)))
    assert {one.status_code for one in answers} == {200}
    assert sum(map(hit, answers)) > 200


def test_the_access_log_tells_a_hit(rig: Any) -> None:
    twice(rig, "/plain/logged")
    deadline = time.monotonic() + 20
    while '"details":"cache_hit"' not in rig.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_without_valkey_and_without_the_service_upstreams_answer(rig: Any) -> None:
    """Last: nothing is there any more when it is done."""
    twice(rig, "/plain/outage")
    rig.valkey.kill9()
    answers = [get(rig, "/plain/outage") for _ in range(5)]
    assert [(one.status_code, hit(one)) for one in answers] == [(200, False)] * 5
    rig.decisions.hang_up()
    answers = [get(rig, "/plain/outage") for _ in range(5)]
    assert [(one.status_code, hit(one)) for one in answers] == [(200, False)] * 5
