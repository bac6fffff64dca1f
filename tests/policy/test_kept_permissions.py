"""The response of a caller who was let in is kept for its next request: only what was meant for it may be in it."""

import asyncio

from envoy.service.auth.v3 import external_auth_pb2
from google.rpc import code_pb2
from prometheus_client import CollectorRegistry

from policy.authz import response
from policy.authz.check import Allow
from policy.authz.identity import Identity
from policy.authz.lastused import LastUsed
from policy.authz.service import Authorization
from policy.authz.store import KeyStore
from policy.metrics import Metrics
from policy.ratelimit.memory import MemoryStore
from policy.ratelimit.service import RateLimit
from policy.view import Views
from tests.policy.facts_of import ROUTE, check_request, view

ANN = Identity("ann", "free", (), "jwt")


class NoKeys:
    async def key(self, key_id: str) -> None:
        return None


class Calling:
    def time_remaining(self) -> None:
        return None

    def invocation_metadata(self) -> tuple[()]:
        return ()


async def nothing_noted(_: object) -> None:
    return None


def service() -> Authorization:
    views, metrics = Views(view()), Metrics(CollectorRegistry())
    limits = RateLimit(views, MemoryStore(), metrics)
    return Authorization(views, KeyStore(NoKeys()), LastUsed(nothing_noted), {}, metrics, limits=limits)


def test_an_answer_with_limits_never_alters_a_kept_permission() -> None:
    decide = service().method().answer

    async def asked(times: int, **settings: str) -> list[external_auth_pb2.CheckResponse]:
        request = check_request(settings=ROUTE | settings, claims={"sub": "ann"})
        return [await decide(request, Calling()) for _ in range(times)]

    async def run() -> None:
        (before,) = await asked(1)
        text = before.SerializeToString(deterministic=True)
        counted = await asked(4, limits="here")
        assert [answer.status.code for answer in counted] == [code_pb2.OK] * 3 + [code_pb2.RESOURCE_EXHAUSTED]
        (after,) = await asked(1)
        assert after is before, "it is kept"
        assert after.SerializeToString(deterministic=True) == text

    asyncio.run(run())


def test_permissions_with_cookies_are_not_kept() -> None:
    plain = Allow(ANN, set_headers=(("x-client-id", "ann"),))
    cookies = Allow(ANN, set_headers=(("cookie", "session=1"),))
    assert response.permission(plain) is response.permission(plain)
    first, second = response.permission(cookies), response.permission(cookies)
    assert first == second
    assert first is not second


def test_permissions_of_different_callers_are_different() -> None:
    other = Identity("bob", "free", (), "jwt")
    found = [response.permission(Allow(who)).dynamic_metadata["client"] for who in (ANN, other, ANN)]
    assert found == ["ann", "bob", "ann"]
