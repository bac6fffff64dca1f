"""envoy.service.auth.v3.Authorization: who is calling, and may anybody call this route without saying so?

Tiers and scopes are judged by Envoy's rbac filter from the metadata that goes out with an Allow. When no decision is
possible the RPC fails, and Envoy answers `status_on_error` (503).
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from envoy.service.auth.v3 import external_auth_pb2

from policy import rpc
from policy.authz import combined
from policy.authz.check import (
    Allow,
    Decision,
    Deny,
    NeedsKey,
    NeedsPassword,
    Undecided,
    admitted,
    conclude,
    examine,
    together,
)
from policy.authz.facts import Facts, facts
from policy.authz.identity import KeyRecord
from policy.authz.lastused import LastUsed
from policy.authz.peppers import Peppers
from policy.authz.rehashing import Rehashing
from policy.authz.response import OVER_LIMIT, permission, response
from policy.authz.store import KeyStore
from policy.authz.users import Users
from policy.metrics import Metrics
from policy.ratelimit.service import TIMEOUT as LIMITS_TIMEOUT
from policy.ratelimit.service import RateLimit
from policy.transport.method import Call, Method
from policy.unavailable import Unavailable
from policy.view import BasicSource, PolicyView, Views
from protos.tollhouse.ratelimit.v1 import ratelimit_pb2

NAME: Final = "envoy.service.auth.v3.Authorization"
TIMEOUT: Final = 0.45  # seconds, where Envoy waits for longer: passwords take their time on purpose
ADDRESS: Final = "x-client-address"  # what Envoy says of who calls, beside the request


class Authorization:
    """`peppers`: what digests of keys are made with. `limits`: asked too where a route wants both answers at once."""

    def __init__(
        self,
        views: Views,
        keys: KeyStore,
        last_used: LastUsed,
        peppers: Peppers,
        metrics: Metrics,
        users: Users | None = None,
        limits: RateLimit | None = None,
        rehashing: Rehashing | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._views = views
        self._keys = keys
        self._last_used = last_used
        self._peppers = peppers
        self._metrics = metrics
        self._users = users or Users(None)
        self._limits = limits
        self._rehashing = rehashing
        self._now = now

    def method(self) -> Method[external_auth_pb2.CheckRequest, external_auth_pb2.CheckResponse]:
        return Method(f"/{NAME}/Check", external_auth_pb2.CheckRequest, self.check)

    async def check(self, request: external_auth_pb2.CheckRequest, call: Call) -> external_auth_pb2.CheckResponse:
        address = _address(call)
        return await rpc.guarded(call, lambda budget: self._answer(request, address, budget), TIMEOUT)

    async def _answer(
        self, request: external_auth_pb2.CheckRequest, address: str, budget: float
    ) -> external_auth_pb2.CheckResponse:
        view = self._views.current
        if view is None:
            self._metrics.authz("", "unavailable")
            raise Unavailable("no gateway has been loaded yet")
        known = facts(request, view, address)
        rule = known.route if known.route in view.routes else ""
        try:
            decision = await self._decide(known, view, budget)
            counted = isinstance(decision, Allow) and combined.asked_here(request)
            answer = response(decision) if counted or isinstance(decision, Deny) else permission(decision)
            if isinstance(decision, Allow) and counted:
                asked = combined.question(view.asking, request, known, decision)
                await self._limit(answer, asked, view, budget)
        except Unavailable:
            self._metrics.authz(rule, "unavailable")
            raise
        self._metrics.authz(rule, _result(decision, answer))
        return answer

    async def _limit(
        self,
        answer: external_auth_pb2.CheckResponse,
        asked: ratelimit_pb2.RateLimitRequest | None,
        view: PolicyView,
        budget: float,
    ) -> None:
        """Turns permission into a refusal where a limit is over. Raises Unavailable as `on_error` says."""
        if asked is None:
            return
        try:
            if self._limits is None:
                raise Unavailable("no limits are kept here")
            combined.add(answer, view.asking, await self._limits.decide(asked, min(budget, LIMITS_TIMEOUT)))
        except Unavailable:
            if view.asking.deny:
                raise

    async def _decide(self, known: Facts, view: PolicyView, budget: float) -> Allow | Deny:
        if not known.all_of or known.unknown:
            return await self._decide_one(known, view, budget)
        allowed: list[Allow] = []
        for way in known.ways():
            decision = await self._decide_one(way, view, budget)
            if isinstance(decision, Deny):
                return decision
            allowed.append(decision)
        return together(known, allowed)

    async def _decide_one(self, known: Facts, view: PolicyView, budget: float) -> Allow | Deny:
        decision = examine(known, view)
        if isinstance(decision, NeedsKey):
            decision = await self._with_key(known, view, decision, budget)
        elif isinstance(decision, NeedsPassword):
            decision = await self._with_password(known, view, decision, budget)
        if isinstance(decision, Undecided):
            raise Unavailable(decision.detail)
        return decision

    async def _with_password(self, known: Facts, view: PolicyView, needed: NeedsPassword, budget: float) -> Decision:
        """Every source is asked whatever the others say: how long it takes does not tell who is known where."""
        found: BasicSource | None = None
        try:
            async with asyncio.timeout(budget):
                for source in needed.sources:
                    credential = needed.credential
                    right = await self._users.verify(source.users, credential.user, credential.password)
                    found = source if right and found is None else found
        except TimeoutError:
            raise Unavailable("the password could not be verified in time") from None
        return admitted(known, view, needed, found)

    async def _looked_up(self, key_id: str, budget: float) -> KeyRecord | None:
        try:
            async with asyncio.timeout(budget):
                return await self._keys.find(key_id)
        except TimeoutError:
            raise Unavailable("the key could not be looked up in time") from None

    async def _with_key(self, known: Facts, view: PolicyView, needed: NeedsKey, budget: float) -> Decision:
        record = self._keys.remembered(needed.key.id) or await self._looked_up(needed.key.id, budget)
        now = self._now()
        decision = conclude(known, view, needed, record, peppers=self._peppers, now=now)
        if isinstance(decision, Allow):
            self._last_used.note(needed.key.id, now)
            if self._rehashing is not None and record is not None:
                self._rehashing.note(record, needed.key.text)
        return decision


def _address(call: Call) -> str:
    for key, value in call.invocation_metadata():
        if key == ADDRESS:
            return str(value)
    return ""


def _result(decision: Allow | Deny, answer: external_auth_pb2.CheckResponse) -> str:
    if isinstance(decision, Deny):
        return decision.reason.value
    return OVER_LIMIT if answer.status.code else "allow"
