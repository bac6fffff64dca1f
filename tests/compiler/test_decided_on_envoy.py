"""A gateway whose callers are named by a decision service: what it is asked, and what its answers do."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.support.upstream import Upstream

from .deciding import Decisions
from .running import KEY, RunningGateway, claims

ALICE = {"client": "alice", "tier": "free", "scopes": ["orders:read"], "credential": "jwt"}
HERE = ("remote_address", "127.0.0.1")


@pytest.fixture(scope="module")
def echo() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def service() -> Iterator[Decisions]:
    with Decisions() as deciding:
        yield deciding


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, echo: Upstream, service: Decisions) -> Iterator[RunningGateway]:
    document = (Path(__file__).parent / "decided.yaml").read_text()
    directory = tmp_path_factory.mktemp("decided")
    decisions = (("127.0.0.1", service.port),)
    with RunningGateway(directory, document, {"ECHO": echo.port}, decisions=decisions) as running:
        wait_connected(running)
        yield running


@pytest.fixture
def decisions(service: Decisions, gateway: RunningGateway) -> Decisions:
    """The service, saying that everybody is Alice."""
    service.identity, service.set_headers, service.remove_headers, service.over_limit = dict(ALICE), {}, (), False
    service.checks.clear()
    service.limited.clear()
    return service


def wait_connected(running: RunningGateway) -> None:
    """The first calls pay for connecting, and a loaded machine may pass the rate limit service's 100 ms."""
    deadline = time.monotonic() + 20
    while running.request("/keys", x_api_key="k").status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.05)


def token(key: bytes = KEY, **more: Any) -> str:
    return jwt.encode(claims(**more), key)


OTHER = {"key": KEY[::-1], "iss": "https://other.example.com/"}


def test_it_is_asked_with_the_routes_own_settings(gateway: RunningGateway, decisions: Decisions) -> None:
    answer = gateway.client.get("/any", headers=[("x-api-key", "one"), ("x-api-key", "two"), ("cookie", "secret")])
    assert answer.status_code == 200
    (check,) = decisions.checks
    assert dict(check.attributes.context_extensions) == {"route": "m/any", "jwt": "acme,other", "api_keys": "partner"}
    sent = [(h.key, h.raw_value or h.value) for h in check.attributes.request.http.header_map.headers]
    assert [value for name, value in sent if name == "x-api-key"] in ([b"one", b"two"], ["one", "two"])
    assert "cookie" not in dict(sent)


def test_it_sees_the_verified_token(gateway: RunningGateway, decisions: Decisions) -> None:
    assert gateway.request("/any", token=token(sub="bob")).status_code == 200
    assert gateway.request("/tokens", token=token(**OTHER, sub="eve")).status_code == 200
    first, second = (
        c.attributes.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"] for c in decisions.checks
    )
    assert first["acme"]["sub"] == "bob"
    assert second["other"]["sub"] == "eve"
    assert dict(decisions.checks[1].attributes.context_extensions)["api_keys"] == ""


def test_it_is_not_asked_where_it_has_nothing_to_say(gateway: RunningGateway, decisions: Decisions) -> None:
    """A bad token is refused before; an open route and a missing token with no key to replace it need no decision."""
    assert gateway.request("/any", token=token(KEY * 2)).status_code == 401
    assert gateway.request("/tokens").status_code == 401
    assert gateway.request("/tokens", x_api_key="k").status_code == 401
    assert gateway.request("/open").status_code == 200
    assert decisions.checks == []


def test_an_empty_answer_lets_nobody_in(gateway: RunningGateway, decisions: Decisions, echo: Upstream) -> None:
    """A CheckResponse without a status says OK to Envoy; rbac finds no caller."""
    before = len(echo.seen)
    decisions.identity = None
    assert gateway.request("/keys", x_api_key="k").status_code == 403
    decisions.identity = {}
    assert gateway.request("/keys", x_api_key="k").status_code == 403
    assert len(echo.seen) == before


@pytest.mark.parametrize(
    ("path", "identity", "status"),
    [
        ("/keys", {}, 200),
        ("/keys", {"tier": "unheard-of"}, 200),
        ("/gold", {}, 403),
        ("/gold", {"tier": "unheard-of"}, 403),
        ("/gold", {"tier": "gold"}, 200),
        ("/scoped", {}, 200),
        ("/scoped", {"scopes": []}, 403),
        ("/scoped", {"scopes": ["orders:readonly"]}, 403),
        ("/scoped", {"scopes": "orders:read"}, 403),
    ],
)
def test_tiers_and_scopes_are_the_services_word(
    gateway: RunningGateway, decisions: Decisions, path: str, identity: dict[str, Any], status: int
) -> None:
    decisions.identity = ALICE | identity
    assert gateway.request(path, x_api_key="k").status_code == status


def test_claims_are_the_tokens_whoever_issued_it(gateway: RunningGateway, decisions: Decisions) -> None:
    assert gateway.request("/claimed", token=token(org={"unit": "a"})).status_code == 200
    assert gateway.request("/claimed", token=token(**OTHER, org={"unit": ["b", "a"]})).status_code == 200
    assert gateway.request("/claimed", token=token(org={"unit": "b"})).status_code == 403
    assert gateway.request("/claimed", x_api_key="k").status_code == 403


def test_it_may_touch_the_key_and_the_client_header_only(gateway: RunningGateway, decisions: Decisions) -> None:
    decisions.set_headers = {"x-client-id": "c_1", "x-user-id": "root", "x-other": "1", "host": "evil"}
    decisions.remove_headers = ("x-api-key", "accept")
    seen = gateway.request("/keys", x_api_key="k", x_client_id="forged").json()["headers"]
    assert seen["x-client-id"] == "c_1"
    assert "x-api-key" not in seen
    assert "accept" in seen
    assert not {"x-user-id", "x-other"} & set(seen)
    assert seen["host"] != "evil"


# ------------------------------------------------------------------------------------------------------------- limits
def test_descriptors_of_a_caller_with_a_key(gateway: RunningGateway, decisions: Decisions) -> None:
    gateway.request("/any", x_api_key="k")
    assert sorted(decisions.descriptors) == [
        (("route_limit", "m/any/burst"), ("client", "alice"), ("route", "m/any")),
        (("tier", "free"), ("client", "alice")),
        (("tier", "free"), ("client", "alice"), ("claim:org.unit", "-")),
        (("tier", "free"), HERE),
    ]
    assert decisions.limited[-1].domain == "tollhouse"


@pytest.mark.parametrize("issuer", [{}, OTHER], ids=["acme", "other"])
@pytest.mark.parametrize(
    ("org", "value"),
    [({"unit": "a"}, "a"), ({}, "-"), ("a", "-"), (None, "-"), ({"unit": ["a"]}, "-"), ({"unit": 7}, "-")],
)
def test_a_claim_limits_whoever_issued_the_token(
    gateway: RunningGateway, decisions: Decisions, issuer: dict[str, Any], org: Any, value: str
) -> None:
    """No shape of the claim escapes the limit."""
    gateway.request("/tokens", token=token(**issuer, org=org))
    assert (("tier", "free"), ("client", "alice"), ("claim:org.unit", value)) in decisions.descriptors
    assert len(decisions.descriptors) == 3


def test_no_identity_escapes_the_limits(gateway: RunningGateway, decisions: Decisions) -> None:
    """A metadata entry without a value would drop its descriptor, and the limit with it."""
    decisions.identity = {"client": "", "tier": ["gold"], "scopes": []}
    assert gateway.request("/keys", x_api_key="k").status_code == 200
    assert (("tier", "free"), ("client", "-")) in decisions.descriptors
    assert len(decisions.descriptors) == 3


def test_descriptors_of_anybody(gateway: RunningGateway, decisions: Decisions) -> None:
    gateway.request("/open")
    assert set(decisions.descriptors) == {
        (("anonymous_tier", "free"), HERE),
        (("anonymous_tier", "free"), HERE, ("claim:org.unit", "-")),
    }


def test_a_caller_over_the_limit(gateway: RunningGateway, decisions: Decisions, echo: Upstream) -> None:
    before = len(echo.seen)
    decisions.over_limit = True
    answer = gateway.request("/any", x_api_key="k")
    assert answer.status_code == 429
    assert answer.json()["title"] == "Too Many Requests"
    assert "x-envoy-ratelimited" not in answer.headers
    assert len(echo.seen) == before


def test_a_refused_caller_costs_nothing(gateway: RunningGateway, decisions: Decisions) -> None:
    assert gateway.request("/gold", x_api_key="k").status_code == 403
    assert decisions.limited == []


def test_without_the_service_nobody_is_let_in_who_needs_it(tmp_path: Path, echo: Upstream) -> None:
    """Limits fail open as the document says; identities never."""
    document = (Path(__file__).parent / "decided.yaml").read_text()
    with RunningGateway(tmp_path, document, {"ECHO": echo.port}) as alone:
        answer = alone.request("/keys", x_api_key="k")
        assert answer.status_code == 503
        assert answer.json()["title"] == "Service Unavailable"
        assert alone.request("/open").status_code == 200
    denying = document.replace("tiers:", "rate_limit_defaults: {on_error: deny}\ntiers:", 1)
    with RunningGateway(tmp_path, denying, {"ECHO": echo.port}) as alone:
        assert alone.request("/open").status_code == 503
