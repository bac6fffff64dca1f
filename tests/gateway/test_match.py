"""The evaluator: which route takes a request and why others do not. What Envoy says is in the differential test."""

from typing import Any

import pytest
import yaml

from gateway.match import Decision, Index, Request, index, route_for
from gateway.model import decode
from gateway.normal import Refused, Target, authority, normalise

DOCUMENT = """
version: 1
listeners:
  http: {port: 8080}
  lax: {port: 8081, strict_paths: false, escaped_slashes: redirect}
  to: {port: 8082, redirect: {}}
tiers: {free: {unlimited: true}}
modules:
  m:
    tier: free
    listener: http
    authentication: none
    hosts: [api.example, "*.api.example"]
    routes:
      exact: {match: {path: {exact: /items}, methods: [GET]}, respond: {status: 200}}
      item:
        match: {path: {template: "/items/{id}"}, headers: {x-kind: {prefix: a, optional: true}}}
        respond: {status: 200}
      query: {match: {path: {exact: /items}, query: {a: {exact: "1"}}}, respond: {status: 200}}
      export: {match: {path: {regex: "/export/[0-9]{4}"}}, respond: {status: 200}}
      below: {match: {path: {prefix: /items}, methods: [GET, POST]}, respond: {status: 200}}
      session: {match: {path: {exact: /session}, cookies: {sid: {regex: "[0-9]+"}}}, respond: {status: 200}}
      call: {match: {grpc: {service: shop.Items, method: Get}}, respond: {status: 200}}
  open:
    tier: free
    listener: http
    authentication: none
    hosts: ["*.example", deep.api.example]
    cors: {allow_origins: ["https://app.example"]}
    routes:
      any: {match: {path: {prefix: /}}, respond: {status: 200}}
"""


@pytest.fixture(scope="module")
def gateway() -> Index:
    return index(decode(yaml.safe_load(DOCUMENT)))


def ask(gateway: Index, target: str, method: str = "GET", host: str = "api.example", **more: Any) -> Decision:
    return route_for(gateway, Request(method, target, host, **more))


def chosen(decision: Decision) -> str:
    return decision.route.name if decision.route else decision.kind


@pytest.mark.parametrize(
    ("method", "target", "headers", "route"),
    [
        ("GET", "/items", (), "exact"),
        ("GET", "/items?a=1", (), "exact"),
        ("PUT", "/items?a=1&a=2", (), "query"),
        ("PUT", "/items?a=2&a=1", (), "unmatched"),
        ("PUT", "/items?a=%31", (), "unmatched"),
        ("GET", "/items/7", (), "item"),
        ("GET", "/items/7", (("X-Kind", "abc"),), "item"),
        ("GET", "/items/7", (("X-Kind", "b"),), "below"),
        ("GET", "/items/7", (("x-kind", "b"), ("x-kind", "a")), "item"),
        ("GET", "//items/./x/../7", (), "item"),
        ("GET", "/%69tems/7", (), "item"),
        ("GET", "/items/7/", (), "below"),
        ("GET", "/itemsx", (), "unmatched"),
        ("GET", "/export/2024", (), "export"),
        ("GET", "/export/20245", (), "unmatched"),
        ("GET", "/session", (("cookie", "a=b; sid=12"),), "session"),
        ("GET", "/session", (("cookie", "sid=x"),), "unmatched"),
        ("POST", "/shop.Items/Get", (("content-type", "application/grpc+proto"),), "call"),
        ("POST", "/shop.Items/Get", (), "unmatched"),
        ("GET", "/items;v=1", (), "strict_path"),
        ("GET", "/items%2f7", (), "refused"),
        ("GET", "/items#top", (), "refused"),
        ("GET", "/items", (("x_kind", "a"),), "refused"),
    ],
)
def test_a_request_finds_its_route(
    gateway: Index, method: str, target: str, headers: tuple[tuple[str, str], ...], route: str
) -> None:
    assert chosen(ask(gateway, target, method, headers=headers)) == route


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("API.example:8080", "api.example"),
        ("api.example.", "api.example"),
        ("x.api.example", "*.api.example"),
        ("deep.api.example", "deep.api.example"),
        ("x.y.api.example", "*.api.example"),
        ("other.example", "*.example"),
        (".example", "*"),
        ("example", "*"),
        ("", "*"),
        ("api.example:x", "*"),
    ],
)
def test_the_most_specific_host_counts_alone(gateway: Index, host: str, found: str) -> None:
    assert ask(gateway, "/x", host=host).host == found


def test_who_lost_and_why(gateway: Index) -> None:
    decision = ask(gateway, "/items", "POST")
    assert chosen(decision) == "below"
    assert {lost.route.name: lost.reason for lost in decision.lost} == {
        "exact": "method",
        "query": "query a",
        "item": "path",
    }
    decision = ask(gateway, "/items/7", headers=(("x-kind", "b"),))
    assert {lost.route.name: lost.reason for lost in decision.lost} == {"item": "header x-kind"}
    decision = ask(gateway, "/items/7")
    assert {lost.route.name: lost.reason for lost in decision.lost} == {"below": "lower precedence"}
    decision = ask(gateway, "/session/")
    assert {lost.route.name: lost.reason for lost in decision.lost} == {"session": "path"}


def test_what_is_answered_before_any_route(gateway: Index) -> None:
    assert ask(gateway, "/x", listener="to").status == 301
    assert ask(gateway, "/a%2Fb", listener="lax").status == 307
    asked = (("origin", "https://app.example"), ("access-control-request-method", "GET"))
    assert ask(gateway, "/x", "OPTIONS", "other.example", headers=asked).kind == "preflight"
    assert ask(gateway, "/x", "OPTIONS", "other.example", headers=asked[:1]).kind == "route"
    with pytest.raises(KeyError):
        ask(gateway, "/x", listener="nowhere")


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a/..;x=1/b", "/b"),
        ("/a/%2e%2e;/b", "/a/..;/b"),
        ("/a/.%2E/b", "/b"),
        ("/a//../b", "/a/b"),
        ("/a\\b", "/a/b"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("///", "//"),
        ('/a"^', "/a%22%5E"),
        ("/%41%2d%5f%7e", "/A-_~"),
        ("/a%2%30", "/a%2520"),
        ("/%%30%30", "/%2500"),
        ("/a%zz%", "/a%zz%"),
        ("/a?/../%2f//", "/a"),
    ],
)
def test_paths_have_one_spelling(target: str, path: str) -> None:
    found = normalise(target)
    assert isinstance(found, Target)
    assert found.path == path


def test_what_has_none_is_refused() -> None:
    for target in ("*", "", "a/b", "/é", "/a b", "/a%00", "/a%5C", "/a?b#c"):
        assert isinstance(normalise(target), Refused), target
    assert isinstance(authority("a/b"), Refused)
    redirected = normalise("/a%2f..%2fb?x=%2f", "redirect")
    assert redirected == Refused(307, "the path has an escaped slash or backslash", "/b?x=%2f")


def test_many_routes_are_found_fast() -> None:
    """By what is looked at, not by a clock: a request meets the routes of its own path only."""
    routes = {f"r{n}": {"match": {"path": {"prefix": f"/p{n}"}}, "respond": {"status": 200}} for n in range(5000)}
    document = yaml.safe_load(DOCUMENT)
    document["modules"]["m"]["routes"] = routes
    decision = ask(index(decode(document)), "/p4999/x")
    assert chosen(decision) == "r4999"
    assert decision.lost == ()
