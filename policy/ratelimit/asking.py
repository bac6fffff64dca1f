"""The question about a request's limits as Envoy's rate limit filter would put it, and what Envoy makes of the answer.

For routes about which the service that knows who calls asks by itself (`rate_limit_defaults.decision: combined`): the
same question and the same answer, so the limits cannot differ from those of routes on which Envoy asks. The compiler's
side is `xds_server.compiler.filters.ratelimit`; the words are `gateway.limits`'.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from envoy.config.core.v3 import base_pb2
from envoy.service.ratelimit.v3 import rls_pb2

from gateway import limits
from gateway.limits import DOMAIN
from gateway.model import Gateway
from gateway.resolve import resolve
from protos.tollhouse.ratelimit.v1 import ratelimit_pb2

Shape = tuple[tuple[str, str], tuple[str, ...]]
"""A descriptor's first entry, and the keys of the others."""

UNITS: Final = {
    "SECOND": 1, "MINUTE": 60, "HOUR": 3_600, "DAY": 86_400, "WEEK": 604_800, "MONTH": 2_592_000, "YEAR": 31_536_000,
}  # fmt: skip
SECONDS: Final = {
    number: UNITS[name] for name, number in rls_pb2.RateLimitResponse.RateLimit.Unit.items() if name in UNITS
}


@dataclass(frozen=True, slots=True)
class Asking:
    """What Envoy's filter is configured with.

    `tiers`: the keys of their limits. `routes`: the shapes of routes' own limits. `status`: of a refusal.
    `deny`: whether requests are refused while nobody can count.
    """

    tiers: tuple[tuple[str, ...], ...]
    routes: Mapping[str, tuple[Shape, ...]]
    x_ratelimit: bool
    status: int
    deny: bool

    @classmethod
    def of(cls, gateway: Gateway) -> "Asking":
        defaults = gateway.rate_limit_defaults
        limited = (route for route in resolve(gateway) if route.rate_limits) if defaults.decision == "combined" else ()
        routes = {r.full_name: tuple((node.head, node.keys) for node in limits.route_nodes(r)) for r in limited}
        return cls(
            limits.tier_shapes(gateway, anonymous=False),
            routes,
            "x-ratelimit" in defaults.headers,
            defaults.response.status,
            defaults.on_error == "deny",
        )

    def question(self, route: str, tier: str, value: Callable[[str], str]) -> ratelimit_pb2.RateLimitRequest | None:
        """None if nothing limits the route. `value`: of a descriptor's key, for this request."""
        request = ratelimit_pb2.RateLimitRequest(domain=DOMAIN)
        for head, keys in self._shapes(route, tier):
            descriptor = request.descriptors.add()
            descriptor.entries.add(key=head[0], value=head[1])
            for key in keys:
                descriptor.entries.add(key=key, value=value(key))
        return request if request.descriptors else None

    def _shapes(self, route: str, tier: str) -> Iterator[Shape]:
        yield from (((limits.tier_key(anonymous=False), tier), keys) for keys in self.tiers)
        yield from self.routes.get(route, ())

    def headers(self, answer: rls_pb2.RateLimitResponse) -> list[tuple[str, str]]:
        """Those that Envoy would add to the response: draft-polli-ratelimit-headers-03, and the answer's own."""
        found = list(_x_ratelimit(answer)) if self.x_ratelimit else []
        return found + [(header.key, header.value) for header in answer.response_headers_to_add]


def _x_ratelimit(answer: rls_pb2.RateLimitResponse) -> Iterator[tuple[str, str]]:
    """As Envoy's x_ratelimit_headers.cc: all limits, and the standing against the one with the least left."""
    statuses = [status for status in answer.statuses if status.HasField("current_limit")]
    if not statuses:
        return
    least = min(statuses, key=lambda status: status.limit_remaining)
    policies = [_policy(status.current_limit) for status in statuses if status.current_limit.unit in SECONDS]
    yield "x-ratelimit-limit", ", ".join([str(least.current_limit.requests_per_unit), *policies])
    yield "x-ratelimit-remaining", str(least.limit_remaining)
    yield "x-ratelimit-reset", str(least.duration_until_reset.seconds)


def _policy(limit: rls_pb2.RateLimitResponse.RateLimit) -> str:
    name = f';name="{limit.name}"' if limit.name else ""
    return f"{limit.requests_per_unit};w={SECONDS[limit.unit]}{name}"


def header(key: str, value: str) -> base_pb2.HeaderValueOption:
    """Beside one of that name that an upstream sends, as Envoy's filter does it."""
    return base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=key, value=value),
        append_action=base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD,
    )
