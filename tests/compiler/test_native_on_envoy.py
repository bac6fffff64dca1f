"""A gateway that Envoy runs by itself: matching, edits, redirects, errors, and who may call with which token."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from gwctl.up.process import free_port
from tests.support.upstream import Upstream

from .running import KEY, RunningGateway, claims

APP = "https://app.example.com"


@pytest.fixture(scope="module")
def echo() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, echo: Upstream) -> Iterator[RunningGateway]:
    document = (Path(__file__).parent / "native.yaml").read_text()
    directory = tmp_path_factory.mktemp("native")
    with Upstream() as slow:  # its own, because what it sees it records late
        upstreams = {"ECHO": echo.port, "SLOW": slow.port, "DOWN": free_port()}
        with RunningGateway(directory, document, upstreams) as running:
            yield running


def token(key: bytes = KEY, **more: Any) -> str:
    return jwt.encode(claims(**more), key)


def problem(response: httpx.Response) -> dict[str, Any]:
    """The problem detail of an error, once it is known to be one."""
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert found["type"] == "about:blank"
    assert found["status"] == response.status_code
    assert found["request_id"] == response.headers["x-request-id"]
    assert found["title"]
    assert "%" not in response.text, "nothing is left unsubstituted"
    return found


def test_envoy_has_nothing_to_warn_of(gateway: RunningGateway) -> None:
    """No deprecated field, no ignored one. The bootstrap of these tests sets no connection limit, a real one does."""
    lines = [line for line in gateway.log.read_text().splitlines() if "downstream connections" not in line]
    assert lines == []


# ------------------------------------------------------------------------------------------------------ what matches
@pytest.mark.parametrize(
    ("method", "path", "headers", "route"),
    [
        ("GET", "/v1/items/7/parts/a/b", {}, "template"),
        ("GET", "/export/2024", {}, "regex"),
        ("PUT", "/by", {}, "by-method"),
        ("PATCH", "/by?tag=open", {}, "by-method"),
        ("GET", "/by", {"x_kind": "abc"}, "by-header"),
        ("GET", "/by?tag=open", {}, "by-query"),
    ],
)
def test_requests_find_their_route(
    gateway: RunningGateway, method: str, path: str, headers: dict[str, str], route: str
) -> None:
    assert gateway.request(path, method, **headers).json()["headers"]["x-route"] == route


@pytest.mark.parametrize(
    "path",
    ["/", "/pingx", "/ping/", "/filesx", "/v1/items/7", "/export/2024/x", "/export/20245", "/by", "/by?tag=ope"],
)
def test_what_no_route_takes_is_404(gateway: RunningGateway, path: str) -> None:
    answer = gateway.request(path)
    assert answer.status_code == 404
    assert problem(answer)["title"] == "Not Found"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/optional-query", 200),
        ("/optional-query?other=1", 200),
        ("/optional-query?mystatus=x", 200),
        ("/optional-query?status=open", 200),
        ("/optional-query?status=x", 404),
        ("/optional-query?other=1&status=x", 404),
        ("/optional-query?status", 404),
        ("/absent-query", 200),
        ("/absent-query?other=1", 200),
        ("/absent-query?debug=1", 404),
        ("/absent-query?debug", 404),
    ],
)
def test_query_parameters_that_may_be_absent(gateway: RunningGateway, path: str, status: int) -> None:
    assert gateway.request(path).status_code == status


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        ("/optional-header", None, 200),
        ("/optional-header", "a", 200),
        ("/optional-header", "b", 404),
        ("/absent-header", None, 200),
        ("/absent-header", "a", 404),
    ],
)
def test_headers_that_may_be_absent(gateway: RunningGateway, path: str, kind: str | None, status: int) -> None:
    assert gateway.client.get(path, headers={"x-kind": kind} if kind else {}).status_code == status


# ------------------------------------------------------------------------------------------- what happens to requests
def test_header_edits_are_literal(gateway: RunningGateway) -> None:
    answer = gateway.client.get("/edits", headers={"cookie": "a=b", "x-add": "one", "x-set": "theirs"})
    seen = answer.json()["headers"]
    assert seen["x-set"] == "100%"
    assert seen["x-forwarded-host"] == "mine"
    assert seen["x-add"] in {"two", "one,two"}  # two lines, of which the upstream's dict keeps one
    assert "cookie" not in seen
    assert answer.headers["x-said"] == "%PROTOCOL%"
    assert answer.headers["content-type"] == "text/x-json"
    assert answer.headers["x-empty"] == ""
    assert answer.headers["strict-transport-security"] == "max-age=60"
    assert "x-powered-by" not in answer.headers


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/old", 308, "{url}/new"),
        ("/old/", 308, "{url}/new/"),
        ("/old/a?q=1", 308, "{url}/new/a?q=1"),
        ("/to-root", 302, "{url}/"),
        ("/to-root/a", 302, "{url}/a"),
        ("/secure", 301, "https://example.com/there"),
    ],
)
def test_redirects(gateway: RunningGateway, path: str, status: int, location: str) -> None:
    answer = gateway.request(path)
    assert (answer.status_code, answer.headers["location"]) == (status, location.format(url=gateway.url))


def test_an_operators_answers(gateway: RunningGateway) -> None:
    pong = gateway.request("/ping")
    assert (pong.status_code, pong.text) == (200, "pong")
    gone = gateway.request("/gone")
    assert gone.status_code == 410
    assert (problem(gone)["title"], problem(gone)["detail"]) == ("Gone", "it moved")


def test_an_upstream_that_is_down_is_503_and_then_at_once(gateway: RunningGateway) -> None:
    for _ in range(3):
        answer = gateway.request("/down")
        assert answer.status_code == 503
        assert "connect" not in problem(answer)["detail"], "how it failed is nobody's business"
    ejected = "cluster.down.outlier_detection.ejections_enforced_total"
    assert f"{ejected}: 1" in gateway.admin.get("/stats", params={"filter": ejected}).text
    open_circuit = "cluster.down.upstream_cx_none_healthy"
    gateway.request("/down")
    assert f"{open_circuit}: 0" not in gateway.admin.get("/stats", params={"filter": open_circuit}).text


def test_an_upstream_that_is_slow_is_504(gateway: RunningGateway) -> None:
    start = time.monotonic()
    answer = gateway.request("/slow?delay=2")
    assert answer.status_code == 504
    assert time.monotonic() - start < 1.9
    assert problem(answer)["title"] == "Gateway Timeout"


@pytest.mark.parametrize(
    ("method", "path", "attempts"),
    [
        ("GET", "/retried", 2),
        ("PUT", "/retried", 2),
        ("POST", "/retried", 1),
        ("POST", "/own-retry", 2),
    ],
)
def test_an_inherited_retry_never_repeats_a_post(
    gateway: RunningGateway, echo: Upstream, method: str, path: str, attempts: int
) -> None:
    before = len(echo.seen)
    assert gateway.request(f"{path}?status=503", method).status_code == 503
    assert len(echo.seen) - before == attempts


# -------------------------------------------------------------------------------------------------------------- CORS
@pytest.mark.parametrize("origin", [APP, "https://a.b.partner.example.com"])
@pytest.mark.parametrize("path", ["/by", "/whoami", "/ping", "/export/2024", "/v1/items/7/parts/a"])
def test_preflights_are_answered_without_credentials(gateway: RunningGateway, origin: str, path: str) -> None:
    headers = {"origin": origin, "access-control-request-method": "PUT"}
    answer = gateway.client.options(path, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["access-control-allow-methods"] == "GET, PUT"
    assert answer.headers["access-control-allow-headers"] == "authorization"


@pytest.mark.parametrize("origin", ["https://evil.com", f"{APP}.evil.com", "https://partner.example.com", "null", "*"])
def test_other_origins_get_nothing(gateway: RunningGateway, echo: Upstream, origin: str) -> None:
    before = len(echo.seen)
    headers = {"origin": origin, "access-control-request-method": "PUT"}
    answer = gateway.client.options("/by", headers=headers)
    assert answer.status_code == 403
    for found in (answer, gateway.client.get("/ping", headers=headers), gateway.client.get("/whoami", headers=headers)):
        assert "access-control-allow-origin" not in found.headers
    assert len(echo.seen) == before


@pytest.mark.parametrize("path", ["/ping", "/gone", "/old", "/files/a", "/whoami"])
def test_answers_and_refusals_carry_the_cors_headers(gateway: RunningGateway, path: str) -> None:
    answer = gateway.client.get(path, headers={"origin": APP})
    assert answer.headers["access-control-allow-origin"] == APP


def test_a_route_without_cors_has_no_preflight(gateway: RunningGateway) -> None:
    headers = {"origin": APP, "access-control-request-method": "GET"}
    assert gateway.client.options("/no-cors", headers=headers).status_code == 404


# ----------------------------------------------------------------------------------------------------- who is calling
def test_a_good_token_passes_and_names_its_holder(gateway: RunningGateway) -> None:
    answer = gateway.request("/whoami", token=token(org={"unit": "a"}), x_user_id="root", x_unit="root")
    assert answer.status_code == 200
    seen = answer.json()["headers"]
    assert (seen["x-user-id"], seen["x-unit"]) == ("alice", "a")
    assert "authorization" not in seen, "the token is not passed on"


@pytest.mark.parametrize(
    "headers", [{"x_user_id": "root", "x_unit": "root"}, {"X_USER_ID": "root"}], ids=["as documented", "upper case"]
)
def test_identity_headers_of_clients_go_nowhere(gateway: RunningGateway, headers: dict[str, str]) -> None:
    """Neither on an open route nor where a claim is missing."""
    nobody = gateway.request("/files/a", **headers).json()["headers"]
    assert not {"x-user-id", "x-unit"} & set(nobody)
    alice = gateway.request("/whoami", token=token(), **headers).json()["headers"]
    assert alice["x-user-id"] == "alice"
    assert "x-unit" not in alice


@pytest.mark.parametrize(
    "name", ["x-original-url", "x-rewrite-url", "x-http-method-override", "x-forwarded-host", "x-envoy-peer-metadata"]
)
def test_headers_that_upstreams_believe_are_taken_off(gateway: RunningGateway, name: str) -> None:
    assert name not in gateway.client.get("/files/a", headers={name: "/admin"}).json()["headers"]


def test_nobody_is_an_internal_address(gateway: RunningGateway) -> None:
    headers = {"x-request-id": "mine", "x-envoy-retry-on": "5xx", "x-envoy-upstream-rq-timeout-ms": "1"}
    answer = gateway.client.get("/files/a", headers=headers)
    seen = answer.json()["headers"]
    assert "x-envoy-internal" not in seen
    assert "mine" not in {seen["x-request-id"], answer.headers["x-request-id"]}


NOW = int(time.time())


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        ({"exp": None}, 401),
        ({"exp": NOW - 3600}, 401),
        ({"exp": NOW + 3 * 3600}, 401),  # longer than max_lifetime
        ({"exp": 10**18}, 401),
        ({"nbf": NOW + 3600}, 401),
        ({"iss": "https://evil.com/"}, 401),
        ({"iss": None}, 401),
        ({"sub": 5}, 401),
        ({"aud": "somebody-else"}, 401),  # Envoy says 403; our local reply does not
        ({"aud": None}, 401),
    ],
)
def test_claims_that_are_refused(gateway: RunningGateway, bad: dict[str, Any], status: int) -> None:
    payload = {name: value for name, value in (claims() | bad).items() if value is not None}
    answer = gateway.request("/whoami", token=jwt.api_jws.encode(json.dumps(payload).encode(), KEY, "HS256"))
    assert answer.status_code == status
    assert problem(answer)
    assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_credentials_that_are_none(gateway: RunningGateway) -> None:
    good = token()
    head, body, signature = good.split(".")
    unsigned = jwt.encode(claims(), None, "none")
    for bad in (token(KEY[::-1]), unsigned, f"{head}.{body}.", f"{head}.{body}.{signature[::-1]}", "x", "a.b.c"):
        assert gateway.request("/whoami", token=bad).status_code == 401, bad
    assert gateway.request("/whoami").status_code == 401
    assert gateway.request(f"/whoami?access_token={good}").status_code == 401
    assert gateway.client.get("/whoami", headers={"authorization": f"Basic {good}"}).status_code == 401


# -------------------------------------------------------------------------------------------------------- who may call
@pytest.mark.parametrize(
    ("path", "more", "status"),
    [
        ("/whoami", {}, 200),  # the lowest tier takes everybody
        ("/whoami", {"plan": "unheard-of"}, 200),
        ("/whoami", {"plan": ["gold"]}, 200),
        ("/pro", {}, 403),
        ("/pro", {"plan": "free"}, 403),
        ("/pro", {"plan": "unheard-of"}, 403),
        ("/pro", {"plan": "Pro"}, 403),
        ("/pro", {"plan": ["gold"]}, 403),
        ("/pro", {"plan": "pro"}, 200),
        ("/pro", {"plan": "gold"}, 200),
        ("/scoped", {"plan": "pro"}, 403),
        ("/scoped", {"plan": "pro", "scope": "orders:read"}, 200),
        ("/scoped", {"plan": "pro", "scope": "a orders:read b"}, 200),
        ("/scoped", {"plan": "pro", "scope": ["orders:read"]}, 200),
        ("/scoped", {"plan": "pro", "scope": "orders:readonly"}, 403),
        ("/scoped", {"plan": "free", "scope": "orders:read"}, 403),
        ("/ruled", {"plan": "pro"}, 403),
        ("/ruled", {"plan": "pro", "role": "admin"}, 200),
        ("/ruled", {"plan": "pro", "role": ["user", "admin"]}, 200),
        ("/ruled", {"plan": "pro", "role": "administrator"}, 403),
        ("/ruled", {"plan": "pro", "role": "admin", "suspended": True}, 200),  # the first rule that matches decides
        ("/ruled", {"plan": "pro", "org": {"unit": "a"}}, 200),
        ("/ruled", {"plan": "pro", "org": {"unit": ["x", "b"]}}, 200),
        ("/ruled", {"plan": "pro", "org": {"unit": "c"}}, 403),
        ("/ruled", {"plan": "pro", "org": {"unit": "a"}, "suspended": True}, 403),
        ("/ruled", {"plan": "pro", "org": {"unit": "a"}, "suspended": "true"}, 200),  # a string is no boolean
        ("/ruled", {"plan": "pro", "level": 7}, 200),
        ("/ruled", {"plan": "pro", "level": 8}, 403),
        ("/ruled", {"plan": "pro", "level": "7"}, 403),
        ("/ruled", {"plan": "gold"}, 200),
        ("/ruled", {"plan": "gold", "suspended": True}, 403),
        ("/ruled", {"plan": "free", "role": "admin"}, 403),
        ("/tierless", {"plan": "gold"}, 200),
        ("/tierless", {"plan": "pro"}, 403),
    ],
)
def test_tiers_scopes_and_claims(gateway: RunningGateway, path: str, more: dict[str, Any], status: int) -> None:
    assert gateway.request(path, token=token(**more)).status_code == status


@pytest.mark.parametrize(
    ("method", "scope", "status"),
    [
        ("POST", "orders:read", 403),
        ("POST", "orders:read orders:write", 200),
        ("DELETE", "orders:read orders:write", 403),
    ],
)
def test_rules_of_methods(gateway: RunningGateway, method: str, scope: str, status: int) -> None:
    assert gateway.request("/scoped", method, token=token(plan="pro", scope=scope)).status_code == status


def test_rules_of_addresses(gateway: RunningGateway) -> None:
    assert gateway.request("/local").status_code == 200
    assert problem(gateway.request("/elsewhere"))["title"] == "Forbidden"
    spoofed = gateway.request("/elsewhere", x_forwarded_for="10.1.2.3")
    assert spoofed.status_code == 403, "no trusted proxy stands in front"


# ------------------------------------------------------------------------------------------------------ hostile paths
@pytest.mark.parametrize(
    "target",
    [
        b"/files/%2e%2e/pro",
        b"/files/../pro",
        b"//pro",
        b"/files/..//pro",
        b"/files/..%2fpro",
        b"/files/..%5cpro",
        b"/files/%252e%252e/pro",
        b"/files/..;/pro",
        b"/files/%00",
        b"/files/a%7f",
        b"/files/%c0%ae%c0%ae/pro",
        b"/files/%ff",
        b"/files/\xff",
        b"/files/%",
        b"/files/%2",
        b"/files/%zz",
        b"/files/a;b",
        b"/files/a%3Bb",
        b"/files/a#/../../pro",
        b"/pro;x",
        b"/pro%00",
        b"pro",
    ],
)
def test_ambiguous_paths_reach_no_upstream(gateway: RunningGateway, echo: Upstream, target: bytes) -> None:
    before = len(echo.seen)
    assert gateway.raw(target) in {400, 401, 403, 404}
    assert len(echo.seen) == before


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        (b"/files/a/../b", "/files/b"),
        (b"/files//a", "/files/a"),
        (b"/files/%41", "/files/A"),
        (b"/files/a%20b", "/files/a%20b"),
        (b"/files/~x@y:z,[1]|{}?a=%2F..;", "/files/~x@y:z,[1]%7C%7B%7D?a=%2F..;"),
    ],
)
def test_plain_paths_pass_in_one_spelling(gateway: RunningGateway, echo: Upstream, target: bytes, seen: str) -> None:
    assert gateway.raw(target) == 200
    assert echo.seen[-1]["path"] == seen


@pytest.mark.parametrize("host", [b"a.example.com", b"localhost:99999", b"localhost.", b"a,b", b""])
def test_any_host_that_is_not_known_gets_the_star_host(gateway: RunningGateway, host: bytes) -> None:
    assert gateway.raw(b"/ping", host) == 200
