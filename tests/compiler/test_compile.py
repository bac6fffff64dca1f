"""Single rules of the compiler that no golden case shows: isolation, names, secrets out of sight, and speed."""

import time
from typing import Any

import pytest
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from gateway.model import Gateway, decode
from xds_server.compiler import CaBundle, Certificate, HmacKey, Settings, compile, names  # noqa: A004
from xds_server.compiler.filters import cors
from xds_server.compiler.tables.reading import routes_of
from xds_server.resources import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SECRET, Snapshot

from .golden import SECRETS, compiled


def document(routes: dict[str, Any], **more: Any) -> Gateway:
    module = {"tier": "free", "listener": "http", "authentication": "none", "routes": routes}
    base = {"version": 1, "listeners": {"http": {"port": 8080}}, "tiers": {"free": {"unlimited": True}}}
    return decode(base | {"modules": {"m": module}} | more)


def answer(path: str) -> dict[str, Any]:
    return {"match": {"path": {"exact": path}}, "respond": {"status": 200}}


def table(messages: tuple[Any, ...]) -> RouteConfiguration:
    return next(m for m in messages if isinstance(m, RouteConfiguration))


def test_a_bug_closes_one_route_and_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    gateway = document({"a": answer("/a") | {"cors": {"allow_origins": ["*"]}}, "b": answer("/b")})
    monkeypatch.setattr(cors, "answers", broken)
    found = compile(gateway, Settings(), {})
    assert [(p.code, p.path) for p in found.problems] == [("GW603", ("modules", "m", "routes", "a"))]
    statuses = {r.name: r.direct_response.status for r in routes_of(table(found.messages).virtual_hosts[0])}
    assert (statuses["m/a"], statuses["m/b"]) == (500, 200)
    with pytest.raises(RuntimeError):
        compile(gateway, Settings(), {}, strict=True)


def test_a_route_is_closed_where_it_would_be_matched() -> None:
    """Its requests must not fall to a route behind it."""
    routes = routes_of(table(compiled("closed").messages).virtual_hosts[0])
    closed = [route for route in routes if route.name == "m/distrusted"]
    assert [route.direct_response.status for route in closed] == [500]
    assert closed[0].match.path_separated_prefix == "/distrusted"
    assert closed[0].match.headers[0].string_match.exact == "GET"


def test_secrets_are_out_of_sight() -> None:
    shown = repr([HmacKey(b"sesame"), Certificate(b"sesame", b"sesame"), CaBundle(b"sesame")])
    assert "sesame" not in shown
    assert "0123456789" not in repr(compiled("closed").problems)


def test_every_resource_leads_back_to_the_document() -> None:
    snapshot = Snapshot.of(1, compiled("upstreams").messages)
    for type_url in (CLUSTER, ENDPOINTS, LISTENER, ROUTES):
        for name in snapshot.types[type_url].resources:
            path = names.document_path(type_url, name)
            assert (path is None) == name.startswith("tollhouse/")
    assert names.document_path(CLUSTER, "zones") == ("upstreams", "zones")
    assert names.document_path(ROUTES, "http") == ("listeners", "http")
    message = "Provider 'acme' in jwt_authn config has invalid local jwks: Jwks is an invalid JSON"
    assert names.document_path(EXTENSION, "tollhouse/jwt_authn", message) == ("jwt_providers", "acme")
    assert names.document_path(SECRET, "site") is None
    assert names.route_path("m/a") == ("modules", "m", "routes", "a")
    assert names.route_path(names.preflight("m/a")) == ("modules", "m", "routes", "a")
    assert names.route_path(names.UNMATCHED) is None


def test_settings_say_where_to_listen() -> None:
    gateway = document({"a": {"match": {"path": {"prefix": "/"}}, "redirect": {"path": "/b"}}})
    found = compile(gateway, Settings("0.0.0.0", {"http": 18080}), {}, strict=True)
    (listener,) = [m for m in found.messages if m.DESCRIPTOR.name == "Listener"]
    address = listener.address.socket_address
    assert (address.address, address.port_value) == ("0.0.0.0", 18080)
    redirect = routes_of(table(found.messages).virtual_hosts[0])[0].redirect
    assert redirect.port_redirect == 18080, "the port is stripped before routing and must come back"


def test_a_decision_service_by_name_is_found_by_dns() -> None:
    found = compile(document({"a": answer("/a")}), Settings(decisions=(("decisions", 9000),)), {}, strict=True)
    (cluster,) = [m for m in found.messages if getattr(m, "name", "") == names.DECISIONS]
    assert cluster.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address == "decisions"


def test_ten_thousand_routes_are_compiled_in_seconds() -> None:
    """The benchmark holds the target of one second; this catches what makes it quadratic, on any machine."""
    backends = [{"upstream": "u"}]
    routes = {f"r{i}": {"match": {"path": {"prefix": f"/r{i}"}}, "backends": backends} for i in range(10_000)}
    upstreams = {"u": {"type": "static", "endpoints": [{"address": "127.0.0.1", "port": 9000}]}}
    gateway = document(routes, upstreams=upstreams)
    start = time.process_time()
    found = compile(gateway, Settings(), SECRETS, strict=True)
    assert time.process_time() - start < 10
    assert len(routes_of(table(found.messages).virtual_hosts[0])) == 10_001
