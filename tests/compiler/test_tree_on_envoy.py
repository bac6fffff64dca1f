"""Trees and scopes on a real Envoy: they decide as the list does, and nobody can steer them."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from gateway.match import Request
from gateway.model import decode
from gateway.resolve import resolve
from gateway.scopes import scopes_of
from tests.support.generate_gateway import document, requests, wire
from tests.support.observed import ObservedGateway
from xds_server.compiler.tables import tree

from .running import RunningGateway

LISTENERS = 6
REQUESTS = 150


def chosen(directory: Path, written: dict[str, Any], asked: dict[str, list[Request]]) -> Iterator[tuple[int, str]]:
    with ObservedGateway(directory, decode(written)) as envoy:
        for listener, wanted in asked.items():
            for status, headers in envoy.ask(listener, [*map(wire, wanted)]):
                yield status, headers.get(b"x-seen-route", b"").decode()


def different(directory: Path, left: dict[str, Any], right: dict[str, Any], seed: int) -> list[str]:
    asked = {name: list(requests(seed, left, name, REQUESTS)) for name in left["listeners"]}
    pairs = zip(chosen(directory, left, asked), chosen(directory, right, asked), strict=True)
    every = [request for wanted in asked.values() for request in wanted]
    return [f"{q}: {a} {b}" for q, (a, b) in zip(every, pairs, strict=True) if a != b]


@pytest.mark.parametrize("free", [tree.FREE, 0], ids=["as it is", "merged"])
def test_a_tree_decides_as_the_list_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """`merged`: no leaf may copy anything for free, so most of them go to the one above."""
    monkeypatch.setattr(tree, "FREE", free)
    monkeypatch.setattr(tree, "PER_ROUTE", min(free, tree.PER_ROUTE))
    assert different(tmp_path, document(11, LISTENERS, "tree"), document(11, LISTENERS, "list"), 11) == []


def scoped(written: dict[str, Any], scoping: Any) -> dict[str, Any]:
    """The document with all of its listeners scoped, without what scopes cannot hold and without CORS.

    A preflight for a path that no route has is answered by a whole host's list and not by a scope.
    """
    for module in written["modules"].values():
        module.pop("cors", None)
        module["hosts"] = [host for host in module["hosts"] if "*" not in host] or ["a.example"]
        for route in module["routes"].values():
            route.pop("cors", None)
    unplaced = {route.full_name for route in resolve(decode(written)) if not scopes_of(route, scoping)}
    for name, module in written["modules"].items():
        module["routes"] = {key: route for key, route in module["routes"].items() if f"{name}/{key}" not in unplaced}
        module["routes"]["some"] = {"match": {"path": {"exact": f"/some-{name}"}}, "respond": {"status": 200}}
    for listener in written["listeners"].values():
        listener["route_scopes"] = scoping
    return written


@pytest.mark.parametrize("scoping", ["path", "host_path"])
def test_scopes_decide_as_the_list_does(tmp_path: Path, scoping: str) -> None:
    left, right = (scoped(document(12, LISTENERS, kind), scoping) for kind in ("tree", "list"))
    for listener in right["listeners"].values():
        listener["route_scopes"] = "none"
    asked = {
        name: [replace(q, host=q.host.lower()) for q in requests(12, left, name, REQUESTS)]  # scopes take it as sent
        for name in left["listeners"]
    }
    ours = list(chosen(tmp_path, left, asked))
    theirs = list(chosen(tmp_path, right, asked))
    every = [request for wanted in asked.values() for request in wanted]
    wrong = [
        f"{q}: {a} {b}"
        for q, a, b in zip(every, ours, theirs, strict=True)
        if (a[0], a[1] or "tollhouse/unmatched") != (b[0], b[1] or "tollhouse/unmatched")
    ]
    assert wrong == []
    assert len({route for _, route in ours}) > 20, "too few routes were reached"


UNMATCHED = "No route of this gateway takes this request."
DOCUMENT = """
version: 1
listeners: {http: {port: 8080, access_log: none, route_scopes: SCOPES}}
upstreams: {u: {type: static, endpoints: [{address: 127.0.0.1, port: UPSTREAM}]}}
jwt_providers: {acme: {issuer: https://id.example.com/, audiences: [orders], jwks: {hs256: {secret: acme-key}}}}
tiers: {free: {unlimited: true}}
modules:
  m:
    tier: free
    listener: http
    hosts: [a.example.com]
    authentication: none
    routes:
      a: {match: {path: {prefix: /a}}, respond: {status: 200, body: a}}
      root: {match: {path: {exact: /}}, respond: {status: 200, body: root}}
      echo: {match: {path: {prefix: /echo}}, backends: [{upstream: u}], mirror: {upstream: u, percent: 100%}}
"""
FORGED = {"x-tollhouse-path": "/a/", "x-tollhouse-listener": "other", "x-envoy-original-path": "/a"}


class Seen(BaseHTTPRequestHandler):
    """An upstream that remembers the headers of its requests."""

    headers_seen: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        self.headers_seen.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Seen) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("scoping", ["none", "host", "path", "host_path"])
def test_nobody_steers_the_search_and_nobody_sees_it(tmp_path: Path, upstream: int, scoping: str) -> None:
    written = DOCUMENT.replace("SCOPES", scoping)
    with RunningGateway(tmp_path, written, {"UPSTREAM": upstream}) as gateway:

        def get(path: str, host: str = "a.example.com") -> httpx.Response:
            return gateway.client.get(path, headers={"host": host, **FORGED})

        assert get("/a").text == get("/a/x?y=/z").text == "a"
        assert get("/").text == get("/?/a").text == "root"
        for path, host in (("/ab", "a.example.com"), ("/zzz", "a.example.com"), ("/a", "c.example.com")):
            missed = get(path, host)
            assert missed.status_code == 404, "without a table, too, and before a token is asked for"
            assert missed.headers["content-type"] == "application/problem+json"
            assert missed.json()["detail"] == UNMATCHED
        Seen.headers_seen.clear()
        assert get("/echo").status_code == 200
        deadline = time.monotonic() + 10
        while len(Seen.headers_seen) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(Seen.headers_seen) == 2, "the request and its mirror"
        assert not [name for seen in Seen.headers_seen for name in seen if name.startswith("x-tollhouse-")]
