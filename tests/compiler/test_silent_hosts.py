"""Tables by first segment: a host without a route there is answered 404, and never by a wildcard's routes."""

from envoy.config.route.v3.route_pb2 import RouteConfiguration

from gateway.model import decode
from xds_server.compiler import Settings, compile  # noqa: A004
from xds_server.compiler.memo import Memo
from xds_server.compiler.tables.reading import routes_of

OPEN = {"tier": "free", "listener": "http", "authentication": "none"}


def document(host: str = "b.a.example", listener: str = "http") -> dict:
    respond = {"respond": {"status": 200}}
    wide = {"r": {"match": {"path": {"prefix": "/x"}}, **respond}}
    narrow = {"r": {"match": {"path": {"prefix": "/y"}}, **respond}}
    return {
        "version": 1,
        "listeners": {"http": {"port": 8080, "route_scopes": "path"}, "other": {"port": 8081, "route_scopes": "path"}},
        "tiers": {"free": {"unlimited": True}},
        "modules": {
            "wide": {**OPEN, "hosts": ["*.a.example"], "routes": wide},
            "narrow": {**OPEN, "listener": listener, "hosts": [host], "routes": narrow},
        },
    }


def hosts_of(found: object, table: str) -> dict[str, list[str]]:
    """The names of the routes of each host in a table."""
    messages = found.messages  # type: ignore[attr-defined]
    one = next(m for m in messages if isinstance(m, RouteConfiguration) and m.name == table)
    return {host.domains[0]: [route.name for route in routes_of(host)] for host in one.virtual_hosts}


def tables(document: dict, memo: Memo | None = None) -> dict[str, dict[str, list[str]]]:
    found = compile(decode(document), Settings(), {}, strict=True, memo=memo)
    names = [m.name for m in found.messages if isinstance(m, RouteConfiguration)]
    return {name: hosts_of(found, name) for name in names}


def hosts_with_x(document: dict, memo: Memo | None = None) -> dict[str, list[str]]:
    found = [hosts for hosts in tables(document, memo).values() if "wide/r" in hosts.get("*.a.example", ())]
    assert len(found) == 1
    return found[0]


def test_a_narrower_host_of_the_listener_keeps_its_requests() -> None:
    assert hosts_with_x(document())["b.a.example"] == ["tollhouse/unmatched"]


def test_hosts_that_no_wildcard_takes_are_left_out() -> None:
    assert "b.example" not in hosts_with_x(document("b.example"))
    assert "b.a.example" not in hosts_with_x(document(listener="other"))


def test_a_memo_learns_of_a_host_that_came_elsewhere() -> None:
    memo = Memo()
    assert "b.a.example" not in hosts_with_x(document("b.example"), memo)
    assert hosts_with_x(document(), memo) == hosts_with_x(document())
