"""The five outcomes that are law (401, 403, 429, 503 with the circuit open, 504) and their neighbours."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support import tokens
from tests.support.gateway import until
from tests.support.lab import Lab
from tests.support.upstream import Upstream


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The RFC 9457 body that every local reply must have, with the id that the response header carries."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["request_id"] == response.headers["x-request-id"]
    return body


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


# ------------------------------------------------------------------------------------------------------------ 200
def test_200_with_a_key(lab: Lab) -> None:
    key = lab.gateway.key("free", "two-hundred")
    answer = lab.gateway.get("/orders/1", x_api_key=key)
    assert answer.status_code == 200, answer.text
    seen = answer.json()["headers"]
    assert "x-api-key" not in seen, "the credential must not reach the upstream"
    assert seen["x-client-id"]
    assert answer.headers["x-gateway"] == "tollhouse"
    assert "x-powered-by" not in answer.headers


def test_200_with_a_minted_token(lab: Lab) -> None:
    token = lab.gateway.token("hs", "ada", "--tier", "free")
    answer = lab.gateway.get("/orders/1", **bearer(token))
    assert answer.status_code == 200, answer.text
    assert answer.json()["headers"]["x-user-id"] == "ada"
    assert "authorization" not in answer.json()["headers"]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_200_with_an_inline_key_set(lab: Lab, algorithm: str) -> None:
    answer = lab.gateway.get("/orders/1", **bearer(lab.pk_token(algorithm, tier="free")))
    assert answer.status_code == 200, answer.text


# ------------------------------------------------------------------------------------------------------------ 401
def test_401_without_a_credential(lab: Lab) -> None:
    answer = lab.gateway.get("/orders/1")
    problem(answer, 401)
    assert answer.headers["www-authenticate"]


def forged(lab: Lab) -> dict[str, str]:
    now = int(time.time())
    good = tokens.claims("https://hs.example")
    return {
        "bad signature": tokens.broken_signature(lab.hs_token()),
        "other secret": tokens.sign(b"x" * 32, "HS256", good),
        "expired": lab.hs_token(iat=now - 7200, exp=now - 3600),
        "not yet valid": lab.hs_token(nbf=now + 3600),
        "alg none": tokens.unsigned(good),
        "alg nOnE": tokens.unsigned(good, "nOnE"),
        "no exp": lab.hs_token(exp=None),
        "eternal": lab.hs_token(exp=now + 10 * 365 * 86400),
        "unknown issuer": lab.hs_token(iss="https://evil.example"),
        "key confusion": tokens.confused(tokens.key_set(lab.keys), tokens.claims("https://pk.example"), kid="RS256"),
        "junk": "a.b.c",
    }


def test_401_for_every_forged_token(lab: Lab) -> None:
    for name, token in forged(lab).items():
        answer = lab.gateway.get("/orders/1", **bearer(token))
        assert answer.status_code == 401, f"{name}: {answer.status_code} {answer.text}"
        problem(answer, 401)


def test_401_for_a_token_in_the_query(lab: Lab) -> None:
    problem(lab.gateway.get(f"/orders/1?access_token={lab.hs_token()}"), 401)


def test_401_for_bad_keys(lab: Lab) -> None:
    key = lab.gateway.key("free", "bad-keys")
    other = lab.gateway.key("free", "bad-keys-2")
    for name, text in {
        "junk": "junk",
        "typo": key[:-1] + ("a" if key[-1] != "a" else "b"),
        "two": f"{key},{other}",
    }.items():
        answer = lab.gateway.get("/orders/1", x_api_key=text)
        assert answer.status_code == 401, f"{name}: {answer.text}"
        assert key not in answer.text
    duplicate = lab.gateway.client.get("/orders/1", headers=[("x-api-key", key), ("x-api-key", key)])
    assert duplicate.status_code == 401, duplicate.text


def test_a_bad_token_is_not_healed_by_a_good_key(lab: Lab) -> None:
    key = lab.gateway.key("free", "healer")
    answer = lab.gateway.get("/orders/1", x_api_key=key, **bearer(tokens.broken_signature(lab.hs_token())))
    problem(answer, 401)


def test_a_revoked_key_stops_working_within_a_second_or_so(lab: Lab) -> None:
    made = lab.gateway.ask("keys", "create", "--tier", "free", "--name", "revoked")
    assert lab.gateway.get("/orders/1", x_api_key=made["key"]).status_code == 200
    lab.gateway.ask("keys", "revoke", made["id"])
    until(lambda: lab.gateway.get("/orders/1", x_api_key=made["key"]).status_code == 401, seconds=5)
    listed = lab.gateway.gwctl("keys", "list", "-o", "json").stdout
    assert made["id"] in listed
    assert made["key"] not in listed


# ------------------------------------------------------------------------------------------------------------ 403
def test_403_for_a_tier_too_low(lab: Lab) -> None:
    free, pro = lab.gateway.key("free", "low"), lab.gateway.key("pro", "high")
    problem(lab.gateway.get("/gold/1", x_api_key=free), 403)
    problem(lab.gateway.get("/gold/1", **bearer(lab.hs_token(tier="free"))), 403)
    problem(lab.gateway.get("/gold/1", **bearer(lab.hs_token(tier="no such tier"))), 403)
    problem(lab.gateway.get("/gold/1", **bearer(lab.hs_token(tier=None))), 403)
    assert lab.gateway.get("/gold/1", x_api_key=pro).status_code == 200
    assert lab.gateway.get("/gold/1", **bearer(lab.hs_token(tier="pro"))).status_code == 200
    assert lab.gateway.get("/gold/1", **bearer(lab.hs_token(tier="internal"))).status_code == 200


def test_403_for_a_missing_scope(lab: Lab) -> None:
    for scope, status in {
        "orders:read": 403,
        "orders:auditor": 403,
        "orders:audit": 200,
        "a orders:audit b": 200,
    }.items():
        answer = lab.gateway.get("/orders/7/report", **bearer(lab.hs_token(scope=scope)))
        assert answer.status_code == status, f"{scope}: {answer.text}"
    as_list = lab.gateway.get("/orders/7/report", **bearer(lab.hs_token(scope=["x", "orders:audit"])))
    assert as_list.status_code == 200
    with_scope = lab.gateway.key("free", "auditor", "--scope", "orders:audit")
    without = lab.gateway.key("free", "clerk")
    assert lab.gateway.get("/orders/7/report", x_api_key=with_scope).status_code == 200
    problem(lab.gateway.get("/orders/7/report", x_api_key=without), 403)


def test_403_for_claims(lab: Lab) -> None:
    cases: list[tuple[dict[str, Any], int]] = [
        ({"org": "acme", "email_verified": True}, 200),
        ({"org": "globex", "email_verified": True}, 200),
        ({"org": "acme", "email_verified": False}, 403),
        ({"org": "acme"}, 403),
        ({"org": "initech", "email_verified": True}, 403),
    ]
    for claims, status in cases:
        answer = lab.gateway.get("/orders/7/report", **bearer(lab.hs_token(**claims)))
        assert answer.status_code == status, f"{claims}: {answer.text}"


def test_403_by_rules_on_a_route_that_takes_tokens_only(lab: Lab) -> None:
    good = bearer(lab.pk_token("ES256", tier="internal", scope="staff:read"))
    assert lab.gateway.get("/staff/1", **good).status_code == 200
    problem(lab.gateway.client.post("/staff/1", headers=good), 403)
    problem(lab.gateway.get("/staff/1", **bearer(lab.pk_token("ES256", tier="internal", scope="staff:write"))), 403)
    problem(lab.gateway.get("/staff/1", **bearer(lab.pk_token("ES256", tier="pro", scope="staff:read"))), 403)


def test_identity_headers_of_a_client_are_stripped(lab: Lab) -> None:
    lies = {"x-user-id": "root", "x-client-id": "root"}
    seen = lab.gateway.client.get("/open", headers=lies).json()["headers"]
    assert "root" not in seen.values()
    key = lab.gateway.key("free", "liar")
    seen = lab.gateway.client.get("/orders/1", headers={**lies, "x-api-key": key}).json()["headers"]
    assert "root" not in seen.values()


# ------------------------------------------------------------------------------------------------------------ 429
def test_429_for_the_101st_request_of_a_free_key(lab: Lab) -> None:
    free, pro = lab.gateway.key("free", "hundred"), lab.gateway.key("pro", "thousand")
    answers = [lab.gateway.get("/orders/1", x_api_key=free) for _ in range(101)]
    assert [a.status_code for a in answers] == [200] * 100 + [429]
    first, last = answers[0], answers[-1]
    assert first.headers["x-ratelimit-limit"].startswith("100")
    assert first.headers["x-ratelimit-remaining"] == "99"
    problem(last, 429)
    assert last.headers["x-ratelimit-remaining"] == "0"
    assert 0 < int(last.headers["retry-after"]) <= 3600
    assert "ratelimit-policy" in last.headers
    assert lab.gateway.get("/orders/1", x_api_key=pro).status_code == 200
    pro_answers = [lab.gateway.get("/orders/1", x_api_key=pro).status_code for _ in range(150)]
    assert pro_answers == [200] * 150


def test_429_for_a_token_counts_its_subject(lab: Lab) -> None:
    statuses = [lab.gateway.get("/orders/1", **bearer(lab.hs_token(sub="busy"))).status_code for _ in range(101)]
    assert statuses == [200] * 100 + [429]
    assert lab.gateway.get("/orders/1", **bearer(lab.hs_token(sub="idle"))).status_code == 200


def test_429_of_a_route_limit_and_never_of_a_shadow_limit(lab: Lab) -> None:
    statuses = [lab.gateway.get("/limited/1").status_code for _ in range(12)]
    assert statuses == [200] * 10 + [429] * 2


# -------------------------------------------------------------------------------------------------- 503, 504, 404
def test_503_when_the_upstream_is_down(lab: Lab) -> None:
    problem(lab.gateway.get("/dead/1"), 503)


def test_503_at_once_while_the_circuit_is_open_by_failures(lab: Lab) -> None:
    """Three 503s of the upstream eject its only endpoint; from then on nothing reaches it and nobody waits."""
    until(
        lambda: "application/problem" in lab.gateway.get("/fragile/1").headers["content-type"], what="the circuit opens"
    )
    reached = len(lab.fragile.seen)
    started = time.monotonic()
    for _ in range(20):
        problem(lab.gateway.get("/fragile/1?delay=2"), 503)
    assert time.monotonic() - started < 2, "an open circuit must not wait for the upstream even once"
    assert len(lab.fragile.seen) == reached


def test_503_at_once_when_health_checks_fail(lab: Lab) -> None:
    until(lambda: lab.envoy_stats("cluster.checked.health_check.failure")["cluster.checked.health_check.failure"])
    before = lab.envoy_stats("cluster.checked.upstream_cx_(total|none_healthy)")
    problem(lab.gateway.get("/checked/1"), 503)
    after = lab.envoy_stats("cluster.checked.upstream_cx_(total|none_healthy)")
    none_healthy, connections = "cluster.checked.upstream_cx_none_healthy", "cluster.checked.upstream_cx_total"
    assert (after[none_healthy], after[connections]) == (before[none_healthy] + 1, before[connections])


def test_a_service_that_comes_up_late_is_found_by_its_health_check(lab: Lab) -> None:
    with Upstream(port=lab.dead):
        until(lambda: lab.gateway.get("/checked/1").status_code == 200, seconds=10)
    until(lambda: lab.gateway.get("/checked/1").status_code == 503, seconds=10)


def test_503_at_once_when_the_circuit_breaker_is_full(lab: Lab) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: lab.gateway.get("/narrow/1?delay=1.5"), range(8)))
    statuses = sorted(a.status_code for a in answers)
    assert 200 in statuses
    assert statuses.count(503) >= 5
    for answer in answers:
        if answer.status_code == 503:
            problem(answer, 503)
            assert answer.elapsed.total_seconds() < 1.0


def test_504_when_the_upstream_is_slower_than_the_timeout(lab: Lab) -> None:
    answer = lab.gateway.get("/slow/1?delay=2")
    problem(answer, 504)
    assert answer.elapsed.total_seconds() < 1.8


def test_404_for_no_route(lab: Lab) -> None:
    for path in ("/", "/nothing", "/ordersx", "/openx"):
        problem(lab.gateway.get(path), 404)


# ---------------------------------------------------------------------------------------------------- CORS, routing
def test_cors_preflight_is_answered_without_a_credential(lab: Lab) -> None:
    ask = {"origin": "https://app.example.com", "access-control-request-method": "GET"}
    for path in ("/orders/1", "/orders/7/report", "/open"):
        answer = lab.gateway.client.options(path, headers=ask)
        assert answer.status_code in (200, 204), f"{path}: {answer.text}"
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "GET" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-max-age"] == "3600"
    foreign = lab.gateway.client.options("/orders/1", headers=ask | {"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in foreign.headers


def test_routes_match_by_specificity(lab: Lab) -> None:
    key = lab.gateway.key("pro", "router")
    seen = lab.gateway.client.get("/orders?beta=1", headers={"x-api-key": key, "x-ui": "new"}).json()
    assert seen["headers"]["x-matched"] == "new-ui"
    seen = lab.gateway.client.get("/orders", headers={"x-api-key": key, "x-ui": "new"}).json()
    assert "x-matched" not in seen["headers"]
    seen = lab.gateway.client.get("/orders/export/2026-11", headers={"x-api-key": key, "cookie": "a=b"}).json()
    assert seen["headers"]["x-export"] == "100%"
    assert "cookie" not in seen["headers"]
    assert "x-export" not in lab.gateway.get("/orders/export/2026-1", x_api_key=key).json()["headers"]


def test_redirect_and_direct_response(lab: Lab) -> None:
    answer = lab.gateway.get("/old/a?b=c")
    assert answer.status_code == 308
    assert httpx.URL(answer.headers["location"]).raw_path == b"/new/a?b=c"
    assert lab.gateway.get("/ping").text == "pong"
    assert lab.gateway.get("/by-name/1").status_code == 200


@pytest.mark.parametrize(
    "path", ["/open/../staff/1", "//staff/1", "/open/%2e%2e/staff/1", "/open/..%2fstaff/1", "/staff;a/1"]
)
def test_confusing_paths_never_reach_a_guarded_route(lab: Lab, path: str) -> None:
    """Sent raw: an HTTP client would tidy the path up first."""
    reached = len(lab.echo.seen)
    with socket.create_connection(("127.0.0.1", lab.gateway.port), 5) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        status = int(connection.makefile("rb").readline().split()[1])
    assert status in (400, 401, 403, 404, 307)
    assert len(lab.echo.seen) == reached
