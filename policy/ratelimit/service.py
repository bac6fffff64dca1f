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
from policy.ratelimit import answer, pace
from policy.ratelimit.plan import Plan, plan
from policy.ratelimit.store import FIXED, SLIDING, Counter, Reading, Store, Taken, Unavailable
from policy.ratelimit.window import State
from policy.transport.method import Call, Method
from policy.view import Views
from protos.tollhouse.ratelimit.v1 import ratelimit_pb2

NAME: Final = "envoy.service.ratelimit.v3.RateLimitService"
TIMEOUT: Final = 0.1  # seconds, when Envoy names no deadline
WINDOWS: Final = (SLIDING, FIXED)


class RateLimit:
    def __init__(self, views: Views, store: Store, metrics: Metrics, timeout: float = TIMEOUT) -> None:
        self._views = views
        self._store = store
        self._metrics = metrics
        self._timeout = timeout

    def method(self) -> Method[ratelimit_pb2.RateLimitRequest, rls_pb2.RateLimitResponse]:
        return Method(f"/{NAME}/ShouldRateLimit", ratelimit_pb2.RateLimitRequest, self.should_rate_limit)

    async def should_rate_limit(self, request: ratelimit_pb2.RateLimitRequest, call: Call) -> rls_pb2.RateLimitResponse:
        if not request.domain or not request.descriptors:
            await rpc.refuse(call, grpc.StatusCode.INVALID_ARGUMENT, "a domain and descriptors are required")
        return await rpc.guarded(call, lambda budget: self.decide(request, budget), self._timeout)

    async def decide(self, request: ratelimit_pb2.RateLimitRequest, budget: float) -> rls_pb2.RateLimitResponse:
        """Raises Unavailable."""
        try:
            return await self._answer(request, budget)
        except Unavailable:
            self._metrics.ratelimit(None, "unavailable")
            raise

    async def _answer(self, request: ratelimit_pb2.RateLimitRequest, budget: float) -> rls_pb2.RateLimitResponse:
        view = self._views.current
        if view is None:
            raise Unavailable("no gateway has been loaded yet")
        tree = view.limits if request.domain == DOMAIN else view.domains.get(request.domain)
        if tree is None:
            return answer.answer(Plan([], [[] for _ in request.descriptors]), answer.NOTHING, ietf_headers=False)
        planned = plan(tree, request)
        try:
            taken = await self._store.take(planned.counters, budget) if planned.counters else answer.NOTHING
        except Unavailable:
            answered = answer.without_counters(planned, tree.on_error)
            if answered is None:
                raise
            self._metrics.ratelimit(None, "unavailable")
            return answered
        self._count(planned, taken)
        return answer.answer(planned, taken, ietf_headers=view.ietf_headers)

    def _count(self, planned: Plan, taken: Taken) -> None:
        for charges in planned.charges:
            for limit, place, detail in charges:
                reading, counter = taken.readings[place], planned.counters[place]
                self._metrics.ratelimit(limit, _result(reading, counter), detail)
                if not reading.over and reading.state is not None and _near(counter, reading.state, taken.now):
                    self._metrics.near_limit(limit)


def _result(reading: Reading, counter: Counter) -> str:
    if counter.need <= 0:
        return "refunded" if counter.charge < 0 else "settled"
    if not reading.over:
        return "ok"
    return "over_limit" if counter.enforced else "shadow_over_limit"


def _near(counter: Counter, state: State, now: int) -> bool:
    """Whether less than a fifth is left. Counts that are low enough whatever they weigh are not looked at further."""
    most = counter.burst or counter.limit
    if counter.algorithm in WINDOWS and (state.current + state.previous) * 5 < most * 4:
        return False
    return pace.remaining(counter, state, now) * 5 < most
