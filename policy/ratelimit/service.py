"""envoy.service.ratelimit.v3.RateLimitService: is this request within its limits?

When the counters or the gateway's view are not there the RPC fails, and Envoy does what `rate_limit_defaults.on_error`
says. It must fail, not answer: an answer without a code would be taken for permission whatever was configured.
"""

from typing import Final

import grpc
from envoy.service.ratelimit.v3 import rls_pb2

from gateway.limits import DOMAIN
from policy import rpc
from policy.metrics import Metrics
from policy.ratelimit import answer
from policy.ratelimit.plan import Plan, plan
from policy.ratelimit.store import Store, Taken, Unavailable
from policy.transport.method import Call, Method
from policy.view import Views

NAME: Final = "envoy.service.ratelimit.v3.RateLimitService"
TIMEOUT: Final = 0.1  # seconds, when Envoy names no deadline


class RateLimit:
    def __init__(self, views: Views, store: Store, metrics: Metrics, timeout: float = TIMEOUT) -> None:
        self._views = views
        self._store = store
        self._metrics = metrics
        self._timeout = timeout

    def method(self) -> Method[rls_pb2.RateLimitRequest, rls_pb2.RateLimitResponse]:
        return Method(f"/{NAME}/ShouldRateLimit", rls_pb2.RateLimitRequest, self.should_rate_limit)

    async def should_rate_limit(self, request: rls_pb2.RateLimitRequest, call: Call) -> rls_pb2.RateLimitResponse:
        if not request.domain or not request.descriptors:
            await rpc.refuse(call, grpc.StatusCode.INVALID_ARGUMENT, "a domain and descriptors are required")
        return await rpc.guarded(call, lambda budget: self.decide(request, budget), self._timeout)

    async def decide(self, request: rls_pb2.RateLimitRequest, budget: float) -> rls_pb2.RateLimitResponse:
        """Raises Unavailable."""
        try:
            return await self._answer(request, budget)
        except Unavailable:
            self._metrics.ratelimit(None, "unavailable")
            raise

    async def _answer(self, request: rls_pb2.RateLimitRequest, budget: float) -> rls_pb2.RateLimitResponse:
        view = self._views.current
        if view is None:
            raise Unavailable("no gateway has been loaded yet")
        if request.domain != DOMAIN:
            return answer.answer(Plan([], [[] for _ in request.descriptors]), answer.NOTHING, ietf_headers=False)
        planned = plan(view.limits, request)
        taken = await self._store.take(planned.counters, budget) if planned.counters else answer.NOTHING
        self._count(planned, taken)
        return answer.answer(planned, taken, ietf_headers=view.ietf_headers)

    def _count(self, planned: Plan, taken: Taken) -> None:
        for charges in planned.charges:
            for limit, place in charges:
                over = taken.readings[place].over
                result = "ok" if not over else "shadow_over_limit" if limit.shadow else "over_limit"
                self._metrics.ratelimit(limit, result)
