"""Authorization on a real Envoy: rules on paths, rules in shadow, and a floor below every route."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml

from tests.support.upstream import Upstream

from .running import KEY, RunningGateway, claims

DOCUMENT = """
version: 1
listeners: {http: {port: 8080, access_log: none}}
upstreams: {echo: {type: static, endpoints: [{address: 127.0.0.1, port: ECHO}]}}
jwt_providers: {acme: {issuer: https://id.example.com/, audiences: [orders], jwks: {hs256: {secret: acme-key}}, tier_claim: plan}}
tiers: {free: {unlimited: true}}
modules:
  m:
    tier: free
    listener: http
    authentication: {any_of: [acme]}
    routes:
      paths:
        match: {path: {prefix: /a}}
        backends: [{upstream: echo}]
        authorization:
          rules:
            - {name: internal, action: deny, paths: [{prefix: /a/internal}, {exact: /a/secret}]}
            - {name: reports, action: allow, paths: [{template: "/a/{id}/reports/{rest=**}"}, {regex: "/a/[0-9]+"}, {exact: /a}]}
            - {name: readers, action: allow, scopes: [read], paths: [{template: "/a/*"}]}
      shadow:
        match: {path: {prefix: /shadow}}
        backends: [{upstream: echo}]
        authorization:
          rules:
            - {name: tried, action: deny, scopes: [old], shadow: true}
            - {name: planned, action: allow, scopes: ["new"], shadow: true}
            - {name: readers, action: allow, scopes: [read]}
"""  # noqa: E501 - one line an object


@pytest.fixture(scope="module")
def echo() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, echo: Upstream) -> Iterator[RunningGateway]:
    with RunningGateway(tmp_path_factory.mktemp("authorization"), DOCUMENT, {"ECHO": echo.port}) as running:
        yield running


def token(**more: Any) -> str:
    return jwt.encode(claims(**more), KEY)


@pytest.mark.parametrize(
    ("path", "scope", "status"),
    [
        ("/a", "", 200),
        ("/a?x=/a/internal", "", 200),
        ("/a/17", "", 200),
        ("/a/17?x=y", "", 200),
        ("/a/17x", "", 403),
        ("/a/17x", "read", 200),
        ("/a/17/x", "read", 403),
        ("/a/17/reports/", "", 200),
        ("/a/17/reports/2024/may", "", 200),
        ("/a/17/reportsx/2024", "", 403),
        ("/a/internal", "read", 403),
        ("/a/internal?x", "read", 403),
        ("/a/internal/x", "read", 403),
        ("/a/internal/reports/x", "read", 403),
        ("/a/internals", "read", 200),
        ("/a/secret", "read", 403),
        ("/a/Secret", "read", 200),
        ("/a/x/../secret", "read", 403),
        ("/a/%73ecret", "read", 403),
        ("/a/17/reports/..%2F..%2Fsecret", "read", 400),
    ],
)
def test_rules_on_paths(gateway: RunningGateway, path: str, scope: str, status: int) -> None:
    assert raw(gateway, path, token(scope=scope)) == status


def raw(gateway: RunningGateway, path: str, bearer: str) -> int:
    """The target as it is written: httpx would normalise it."""
    request = gateway.client.build_request("GET", "/", headers={"authorization": f"Bearer {bearer}"})
    request.url = request.url.copy_with(raw_path=path.encode())
    return gateway.client.send(request).status_code


def shadow_counts(gateway: RunningGateway) -> tuple[int, int]:
    """How many requests the rules in shadow would have allowed and denied."""
    stats = gateway.admin.get("/stats", params={"filter": "rbac.shadow_(allowed|denied)$"}).text
    found = dict(line.rsplit(": ", 1) for line in stats.splitlines())
    return tuple(sum(int(v) for k, v in found.items() if k.endswith(word)) for word in ("allowed", "denied"))  # type: ignore[return-value]


def test_rules_in_shadow_are_counted_and_never_decide(gateway: RunningGateway) -> None:
    """Sent: who is let in either way, whom the rules would refuse, and whom they would let in."""
    allowed, denied = shadow_counts(gateway)
    statuses = [
        gateway.request("/shadow", token=token(scope=scope)).status_code for scope in ("read", "read old", "new", "")
    ]
    assert statuses == [200, 200, 403, 403]
    assert shadow_counts(gateway) == (allowed + 2, denied + 2)


# -------------------------------------------------------------------------------------------------------------- floor
FLOOR: dict[str, Any] = {
    "authentication": "required",
    "open_modules": ["open"],
    "authorization": {
        "rules": [
            {"name": "frozen", "action": "deny", "claims": {"frozen": {"exact": True}}},
            {"name": "writes", "action": "deny", "methods": ["POST"], "paths": [{"prefix": "/1"}]},
            {"name": "staff", "action": "allow", "scopes": ["staff"]},
            {"name": "get", "action": "allow", "methods": ["GET"]},
        ]
    },
    "timeouts": {"request": "5s"},
    "response_headers": {"set": {"x-floor": "1"}, "remove": ["x-echo"]},
}
CALLERS = ({"scope": "a"}, {"scope": "b staff"}, {"scope": "a b", "frozen": True}, {"scope": "staff", "plan": "gold"})
ROUTES = 24


def generated(floor: dict[str, Any] | None) -> str:
    """Routes `/0` … with authorization drawn at random, the same with and without the floor; `/0` has none."""
    drawn = random.Random(7)
    document = yaml.safe_load(DOCUMENT.replace("ECHO", "0"))
    document["tiers"] = {"free": {"unlimited": True}, "gold": {"unlimited": True}}
    document["upstreams"]["echo"]["endpoints"][0]["port"] = 1
    routes = {f"r{n}": {"match": {"path": {"exact": f"/{n}"}}, "respond": {"status": 200}} for n in range(ROUTES)}
    for route in list(routes.values())[1:]:
        route["authorization"] = block(drawn)
    document["modules"]["m"]["routes"] = routes
    document["modules"]["open"] = {
        "tier": "free",
        "listener": "http",
        "authentication": "none",
        "routes": {"open": {"match": {"path": {"exact": "/open"}}, "respond": {"status": 200}}},
    }
    if floor is not None:
        document["floor"] = floor
    return yaml.safe_dump(document, sort_keys=False)


def block(drawn: random.Random) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = [
        {},
        {"scopes": ["a"]},
        {"scopes": ["b"]},
        {"tiers": ["gold"]},
        {"claims": {"frozen": {"exact": True}}},
        {"methods": ["GET"]},
        {"cidrs": ["127.0.0.0/8"]},
        {"paths": [{"template": "/{n}"}]},
    ]
    rules = [
        {"name": f"r{n}", "action": drawn.choice(("allow", "deny")), **drawn.choice(conditions)}
        for n in range(drawn.randint(0, 3))
    ]
    return {"default_action": drawn.choice(("allow", "deny")), "rules": rules}


def decided(directory: Path, floor: dict[str, Any] | None) -> dict[tuple[int, int, str], bool]:
    """Whether each caller may do each thing on each route."""
    with RunningGateway(directory, generated(floor), {}) as running:
        tokens = [token(**caller) for caller in CALLERS]
        return {
            (n, who, method): running.request(f"/{n}", method, token=bearer).status_code == 200
            for n in range(ROUTES)
            for who, bearer in enumerate(tokens)
            for method in ("GET", "POST")
        }


def test_a_floor_never_makes_an_allowed_request_of_a_denied_one(tmp_path: Path) -> None:
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    above = decided(tmp_path / "with", FLOOR)
    own = decided(tmp_path / "without", None)
    assert own != above
    for (n, who, method), allowed in above.items():
        floor = above[0, who, method] and (n, method) != (1, "POST")
        assert allowed == (own[n, who, method] and floor), (n, who, method)
    # the floor by itself, on the route that has no rules of its own
    assert [above[0, who, "GET"] for who in range(4)] == [True, True, False, True]
    assert [above[0, who, "POST"] for who in range(4)] == [False, True, False, True]


def test_what_else_a_floor_puts_under_every_route(tmp_path: Path, echo: Upstream) -> None:
    document = yaml.safe_load(DOCUMENT.replace("ECHO", str(echo.port)))
    document["floor"] = FLOOR
    document["modules"]["m"]["routes"]["paths"]["authentication"] = "none"  # `check` refuses it; here it is closed
    document["modules"]["open"] = {
        "tier": "free",
        "listener": "http",
        "authentication": "none",
        "routes": {"open": {"match": {"path": {"exact": "/open"}}, "backends": [{"upstream": "echo"}]}},
    }
    with RunningGateway(tmp_path, yaml.safe_dump(document, sort_keys=False), {}) as running:
        assert running.request("/a").status_code == 500
        opened = running.request("/open")
        assert (opened.status_code, opened.headers["x-floor"]) == (200, "1")
        assert "x-echo" not in opened.headers
        assert running.request("/open", "POST").status_code == 403, "its rules hold for anybody"
        assert running.request("/shadow", token=token(scope="read")).headers["x-floor"] == "1"
        assert [p.path for p in running.compiled.problems] == [("modules", "m", "routes", "paths", "authentication")]
