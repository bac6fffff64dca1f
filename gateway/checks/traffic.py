"""What routes turn on: settings that cannot be carried out, that do nothing, or that are most likely a mistake."""

from collections.abc import Iterable, Iterator

from gateway.checks.scope import Scope
from gateway.model import BandwidthLimit, Compression, FaultInjection, Policies, RateLimit, RequestBuffer
from gateway.problems import Path, Problem, dotted
from gateway.resolve import ResolvedRoute

SMALLEST_RATE = 1024
"""Bytes per second: Envoy counts bandwidth in KiB."""

Placed = tuple[Path, RateLimit]


def problems(scope: Scope) -> Iterator[Problem]:
    for path, level in scope.levels():
        yield from _sizes(level, path)
        yield from _faults(level, path)
        yield from _compression(level, path)
    for name, tier in scope.gateway.tiers.items():
        placed = list(_placed(tier.rate_limits, ("tiers", name)))
        yield from _local(placed)
        yield from _never_binding(placed, placed)
    yield from _of_routes(scope)
    for route in scope.routes:
        if route.traffic.grpc_web:
            yield from _plain_upstreams(scope, route)


def _plain_upstreams(scope: Scope, route: ResolvedRoute) -> Iterator[Problem]:
    """gRPC needs HTTP/2."""
    for index, backend in enumerate(route.route.backends or ()):
        upstream = scope.gateway.upstreams.get(backend.upstream)
        if upstream is not None and upstream.protocol == "http":
            message = f"grpc_web makes gRPC calls, and the upstream '{backend.upstream}' is spoken to in HTTP/1.1"
            help_ = "write `protocol: grpc` at the upstream, or `grpc_web: false` here"
            yield Problem("GW388", (*route.path, "backends", index, "upstream"), message, help_)


def _sizes(level: Policies, path: Path) -> Iterator[Problem]:
    if isinstance(level.request_buffer, RequestBuffer) and level.request_buffer.limit == 0:
        yield Problem("GW381", (*path, "request_buffer", "limit"), "no request with a body would pass", "write a size")
    if isinstance(level.bandwidth_limit, BandwidthLimit):
        for word in ("request", "response"):
            rate = getattr(level.bandwidth_limit, word)
            if rate is not None and rate < SMALLEST_RATE:
                message = f"{rate} bytes per second is less than Envoy can count"
                yield Problem("GW380", (*path, "bandwidth_limit", word), message, "write 1KiB/s or more")


def _faults(level: Policies, path: Path) -> Iterator[Problem]:
    if not isinstance(level.fault_injection, FaultInjection):
        return
    for word, fault in (("delay", level.fault_injection.delay), ("abort", level.fault_injection.abort)):
        if fault is not None and fault.percentage == 100:
            place = (*path, "fault_injection", word, "percentage")
            message = "every request meets this fault: nobody gets a plain answer"
            yield Problem("GW382", place, message, "lower it, unless that is what you are testing", "warning")
    delay = level.fault_injection.delay
    if delay is not None and delay.fixed_delay == 0:
        place = (*path, "fault_injection", "delay", "fixed_delay")
        yield Problem("GW365", place, "fixed_delay may not be zero", "leave `delay` out")


def _compression(level: Policies, path: Path) -> Iterator[Problem]:
    if not isinstance(level.compression, Compression):
        return
    for index, kind in enumerate(level.compression.types):
        if kind in level.compression.types[:index]:
            yield Problem("GW383", (*path, "compression", "types", index), f"'{kind}' is here twice", "remove one")


# ------------------------------------------------------------------------------------------------------------- limits
def _of_routes(scope: Scope) -> Iterator[Problem]:
    floor = list(_placed(scope.gateway.floor.rate_limits, ("floor",)))
    yield from _local(floor)
    yield from _never_binding(floor, floor)
    for name, module in scope.gateway.modules.items():
        above = list(_placed(module.rate_limits or (), ("modules", name)))
        yield from _local(above)
        yield from _never_binding(above, [*floor, *above])
        for route_name, route in module.routes.items():
            own = list(_placed(route.rate_limits or (), ("modules", name, "routes", route_name)))
            yield from _local(own)
            yield from _never_binding(own, [*floor, *above, *own])


def _placed(limits: Iterable[RateLimit], path: Path) -> Iterator[Placed]:
    for index, limit in enumerate(limits):
        yield (*path, "rate_limits", index), limit


def _local(placed: Iterable[Placed]) -> Iterator[Problem]:
    for path, limit in placed:
        if limit.mode != "local":
            continue
        if limit.shadow:
            message = "what Envoy counts by itself is always enforced"
            yield Problem("GW384", (*path, "shadow"), message, "write `mode: exact` to count without enforcing")
        if limit.limit.requests == 0:
            message = "a bucket cannot be empty for ever"
            yield Problem("GW386", (*path, "limit"), message, "write `mode: exact`, or refuse with authorization")


def _never_binding(placed: Iterable[Placed], others: Iterable[Placed]) -> Iterator[Problem]:
    for path, limit in placed:
        tighter = next((one for one in others if one[1] is not limit and _implies(one[1], limit)), None)
        if tighter is not None:
            most = tighter[1].limit
            message = f"never binds: {most} ({dotted(tighter[0])}) lets no more than {_most(tighter[1], limit)} through"
            yield Problem("GW387", path, message, "lower it, or remove it", "warning")


def _implies(tighter: RateLimit, limit: RateLimit) -> bool:
    """Whether who stays within the first can never reach the second: a shorter window, counted by the same or less."""
    within = set(tighter.keys) <= set(limit.keys) and tighter.limit.seconds < limit.limit.seconds
    steady = tighter.burst is None and limit.burst is None and tighter.mode == limit.mode and not tighter.shadow
    counted = tighter.cost_from is None and limit.cost_from is None
    return within and steady and counted and _most(tighter, limit) <= limit.limit.requests // limit.cost


def _most(tighter: RateLimit, limit: RateLimit) -> int:
    """How many requests the first lets through in a window of the second."""
    return tighter.limit.requests // tighter.cost * -(-limit.limit.seconds // tighter.limit.seconds)
