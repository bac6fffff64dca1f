"""What decision services get wrong, each on a real Envoy: what a bad answer would do, and that it does no harm here.

Bad answers come from a service that says what it is told; that our own never gives them is held by `tests/policy`.

1    a CheckResponse without a status is permission
2    so is a rate limit's answer without a code, whatever `on_error` says
3    only the overall code decides
4    a missing value drops its descriptor, and the limit with it
5    with failure_mode_allow a key goes on to the upstream
2.5  what ext_authz makes of each answer

Refunds (6) and quotas before their first share (7): `tests/policy/test_domains.py`, `test_quotas_on_envoy.py`.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest, RateLimitResponse
from google.rpc import code_pb2

from tests.support.upstream import Upstream

from .deciding import Decisions
from .running import RunningGateway

ALICE = {"client": "alice", "tier": "free", "scopes": ["orders:read"], "credential": "key"}
OVER, FINE = RateLimitResponse.OVER_LIMIT, RateLimitResponse.OK
DOCUMENT = (
    (Path(__file__).parent / "decided.yaml")
    .read_text()
    .replace("tiers:", "rate_limit_defaults: {on_error: deny}\ntiers:", 1)
)


class Scripted(Decisions):
    """Answers as a test says."""

    def __init__(self) -> None:
        self.check: Callable[[Any], CheckResponse] = lambda context: allowed()
        self.limit: Callable[[Any], RateLimitResponse] = lambda context: RateLimitResponse(overall_code=FINE)
        super().__init__()

    def Check(self, request: CheckRequest, context: Any) -> CheckResponse:  # noqa: N802 - the service's name
        self.checks.append(request)
        return self.check(context)

    def ShouldRateLimit(self, request: RateLimitRequest, context: Any) -> RateLimitResponse:  # noqa: N802 - the same
        self.limited.append(request)
        return self.limit(context)


def allowed(**identity: Any) -> CheckResponse:
    response = CheckResponse()
    response.status.code = code_pb2.OK
    response.dynamic_metadata.update({**ALICE, **identity})
    return response


def denied(status: int, code: int = code_pb2.PERMISSION_DENIED) -> CheckResponse:
    response = CheckResponse()
    response.status.code = code
    response.denied_response.status.code = status  # type: ignore[assignment]
    response.denied_response.body = "Not today."
    response.denied_response.headers.append(HeaderValueOption(header=HeaderValue(key="x-why", value="because")))
    response.dynamic_metadata.update({"code": "some_code"})
    return response


def failed(context: Any) -> Any:
    context.abort(grpc.StatusCode.UNAVAILABLE, "no decision")


def slow(context: Any) -> Any:
    time.sleep(1)
    return allowed()


@pytest.fixture(scope="module")
def echo() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def service() -> Iterator[Scripted]:
    with Scripted() as scripted:
        yield scripted


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, echo: Upstream, service: Scripted) -> Iterator[RunningGateway]:
    decisions = (("127.0.0.1", service.port),)
    directory = tmp_path_factory.mktemp("traps")
    with RunningGateway(directory, DOCUMENT, {"ECHO": echo.port}, decisions=decisions) as running:
        deadline = time.monotonic() + 20
        while running.request("/keys", x_api_key="k").status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        yield running


@pytest.fixture
def told(service: Scripted, gateway: RunningGateway) -> Scripted:
    service.check = lambda context: allowed()
    service.limit = lambda context: RateLimitResponse(overall_code=FINE)
    service.checks.clear()
    service.limited.clear()
    return service


def ask(gateway: RunningGateway, path: str = "/keys", **headers: str) -> httpx.Response:
    answer: httpx.Response = gateway.request(path, x_api_key="gw_live_key", **headers)
    return answer


EMPTY = CheckResponse()
OPEN_DENIAL = denied(401, code_pb2.OK)


@pytest.mark.parametrize(
    ("number", "check", "status"),
    [
        ("1: no status", lambda context: EMPTY, 403),  # rbac finds no caller
        ("1: code OK with a denial", lambda context: OPEN_DENIAL, 403),
        ("2.5: a code and no denial", lambda context: CheckResponse(status={"code": code_pb2.PERMISSION_DENIED}), 403),
        ("2.5: 401", lambda context: denied(401), 401),
        ("2.5: 403", lambda context: denied(403), 403),
        ("2.5: 429", lambda context: denied(429), 429),
        ("2.5: 503", lambda context: denied(503), 503),
        ("2.5: a failed call", failed, 503),
        ("2.5: a late answer", slow, 503),
    ],
)
def test_what_check_answers(
    gateway: RunningGateway, told: Scripted, echo: Upstream, number: str, check: Callable[[Any], Any], status: int
) -> None:
    told.check = check
    before = len(echo.seen)
    answer = ask(gateway)
    assert answer.status_code == status, number
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(echo.seen) == before
    if number in ("2.5: 401", "2.5: 403"):
        assert (answer.headers["x-why"], answer.json()["detail"]) == ("because", "Not today.")
        assert answer.json()["code"] == "some_code", "metadata is taken over with a denial too"


@pytest.mark.parametrize(
    ("number", "answer", "status"),
    [
        ("2: no code is permission, whatever `on_error` says: so ours fails the call", RateLimitResponse(), 200),
        ("2: UNKNOWN as well", RateLimitResponse(overall_code=RateLimitResponse.UNKNOWN), 200),
        ("3: only the whole counts", RateLimitResponse(overall_code=FINE, statuses=[{"code": OVER}]), 200),
        ("3: and it does", RateLimitResponse(overall_code=OVER, statuses=[{"code": FINE}]), 429),
    ],
)
def test_what_a_limit_s_answer_does(
    gateway: RunningGateway, told: Scripted, number: str, answer: RateLimitResponse, status: int
) -> None:
    told.limit = lambda context: answer
    assert ask(gateway).status_code == status, number


def test_a_failed_limit_is_a_503_where_the_gateway_says_deny(gateway: RunningGateway, told: Scripted) -> None:
    told.limit = failed
    assert ask(gateway).status_code == 503


@pytest.mark.parametrize("identity", [{"tier": None}, {"tier": ["free"]}, {"tier": 7}, {"scopes": None}])
def test_4_no_descriptor_is_dropped(gateway: RunningGateway, told: Scripted, identity: dict[str, Any]) -> None:
    """Envoy drops one of which a value is missing or no string, and its limit with it: each has a default here."""
    told.check = lambda context: allowed()
    ask(gateway, "/any")
    shapes = [[key for key, _ in descriptor] for descriptor in told.descriptors]
    told.check = lambda context: allowed(**identity)
    told.limited.clear()
    assert ask(gateway, "/any").status_code == 200
    assert [[key for key, _ in descriptor] for descriptor in told.descriptors] == shapes
    assert all(value for descriptor in told.descriptors for _, value in descriptor)


def test_5_nobody_s_key_goes_on_when_nobody_decides(gateway: RunningGateway, told: Scripted, echo: Upstream) -> None:
    told.check = failed
    before = len(echo.seen)
    assert ask(gateway).status_code == 503
    assert len(echo.seen) == before


def test_2_5_each_header_arrives_alone(gateway: RunningGateway, told: Scripted) -> None:
    gateway.client.get("/keys", headers=[("x-api-key", "good"), ("x-api-key", "evil"), ("x-api-key", "a,b")])
    sent = told.checks[-1].attributes.request.http.header_map.headers
    assert [h.raw_value or h.value for h in sent if h.key == "x-api-key"] == [b"good", b"evil", b"a,b"]


def test_2_5_who_calls_is_who_envoy_says_and_not_a_header(gateway: RunningGateway, told: Scripted) -> None:
    calls: list[tuple[str, str]] = []

    def noting(context: Any) -> CheckResponse:
        calls.extend((key, value) for key, value in context.invocation_metadata() if key == "x-client-address")
        return allowed()

    told.check = noting
    ask(gateway, x_client_address="192.0.2.1", x_forwarded_for="192.0.2.2")
    assert calls == [("x-client-address", "127.0.0.1")]


@pytest.mark.parametrize("value", ["a\nb", "a\x00b"])
def test_2_5_an_impossible_header_ends_the_request(
    gateway: RunningGateway, told: Scripted, echo: Upstream, value: str
) -> None:
    def check(context: Any) -> CheckResponse:
        response = allowed()
        response.ok_response.headers.append(HeaderValueOption(header=HeaderValue(key="x-client-id", value=value)))
        return response

    told.check = check
    before = len(echo.seen)
    assert ask(gateway).status_code >= 500
    assert len(echo.seen) == before
