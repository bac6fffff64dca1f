"""From a decision to what Envoy is told: a code, a status for each descriptor, headers and a text for the caller."""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from envoy.config.core.v3 import base_pb2
from envoy.service.ratelimit.v3 import rls_pb2

from policy.ratelimit import pace
from policy.ratelimit.plan import Plan
from policy.ratelimit.store import Counter, Taken
from policy.ratelimit.tree import Limit
from policy.ratelimit.window import State

OK: Final = rls_pb2.RateLimitResponse.OK
OVER_LIMIT: Final = rls_pb2.RateLimitResponse.OVER_LIMIT
UNITS: Final = {name.lower(): number for name, number in rls_pb2.RateLimitResponse.RateLimit.Unit.items()}
NOTHING: Final = Taken(0, True, ())


class Standing(NamedTuple):
    """How a caller stands against one enforced limit. `reset`: seconds until it can do more, rounded up."""

    limit: Limit
    over: bool
    remaining: int
    reset: int


def answer(plan: Plan, taken: Taken, *, ietf_headers: bool) -> rls_pb2.RateLimitResponse:
    """Never with the code UNKNOWN, which Envoy takes for permission."""
    standings = [list(_standings(plan, taken, place)) for place in range(len(plan.charges))]
    response = rls_pb2.RateLimitResponse(overall_code=OK if taken.admitted else OVER_LIMIT)
    for of_descriptor in standings:
        _add_status(response, of_descriptor)
    everything = [standing for of_descriptor in standings for standing in of_descriptor]
    if not taken.admitted:
        _refuse(response, [standing for standing in everything if standing.over])
    if ietf_headers and everything:
        _add_ietf_headers(response, everything)
    if shadowed := [
        one.rule for of in plan.charges for one, place, _ in of if one.shadow and taken.readings[place].over
    ]:
        response.dynamic_metadata.update({"would_have_limited": shadowed})  # for access logs
    return response


def without_counters(plan: Plan, on_error: str) -> rls_pb2.RateLimitResponse | None:
    """What limits that say it themselves want while nobody can count; None: fail, and Envoy does `on_error`.

    A denial must be an answer then, since Envoy would let the request pass; so it has the status of a refusal.
    """
    words = {limit.on_error for charges in plan.charges for limit, *_ in charges if not limit.shadow}
    wanted = "deny" if "deny" in words else "allow" if words == {"allow"} else ""
    if wanted in ("", on_error):
        return None
    code = OVER_LIMIT if wanted == "deny" else OK
    response = rls_pb2.RateLimitResponse(overall_code=code)
    for _ in plan.charges:
        response.statuses.add(code=code)
    if wanted == "deny":
        _add_header(response, "retry-after", "1")
        response.raw_body = b"The rate limit cannot be counted at the moment. Retry after 1 second."
    return response


def _standings(plan: Plan, taken: Taken, descriptor: int) -> Iterator[Standing]:
    """Shadow limits are counted and reported in metrics; callers do not hear of them."""
    for limit, place, _ in plan.charges[descriptor]:
        reading = taken.readings[place]
        if limit.shadow or reading.state is None:
            continue
        yield _standing(limit, plan.counters[place], reading.over, reading.state, taken.now)


def _standing(limit: Limit, counter: Counter, over: bool, state: State, now: int) -> Standing:
    left = pace.remaining(counter, state, now)
    if over or not left:
        need = counter.need if over else 1
        milliseconds = pace.wait(counter, state, now, need)
    else:
        milliseconds = pace.until_next(counter, state, now)
    return Standing(limit, over, left, max(1, -(-milliseconds // 1000)))


def _tightest(standings: Iterable[Standing]) -> Standing:
    """The one that the caller runs into first: over, then the least remaining, then the longest wait."""
    return min(standings, key=lambda s: (not s.over, s.remaining, -s.reset))


def _add_status(response: rls_pb2.RateLimitResponse, standings: list[Standing]) -> None:
    over = any(standing.over for standing in standings)
    status = response.statuses.add(code=OVER_LIMIT if over else OK)
    if standings:
        tightest = _tightest(standings)
        current = status.current_limit
        current.requests_per_unit = tightest.limit.requests
        current.unit = UNITS[tightest.limit.unit]  # type: ignore[assignment]
        current.name = tightest.limit.name
        status.limit_remaining = tightest.remaining
        status.duration_until_reset.seconds = tightest.reset


def _refuse(response: rls_pb2.RateLimitResponse, over: list[Standing]) -> None:
    longest = max(over, key=lambda standing: standing.reset)
    _add_header(response, "retry-after", str(longest.reset))
    limit = longest.limit
    text = f"Rate limit of {limit.requests} per {limit.unit} exceeded. Retry after {longest.reset} seconds."
    response.raw_body = text.encode()


def _add_ietf_headers(response: rls_pb2.RateLimitResponse, standings: list[Standing]) -> None:
    """draft-ietf-httpapi-ratelimit-headers: all policies, and the standing against the tightest. Once for each name."""
    policies = {
        s.limit.policy: f'"{s.limit.policy}";q={s.limit.requests};w={s.limit.length // 1000}' for s in standings
    }
    tightest = _tightest(standings)
    _add_header(response, "ratelimit-policy", ", ".join(policies.values()))
    _add_header(response, "ratelimit", f'"{tightest.limit.policy}";r={tightest.remaining};t={tightest.reset}')


def _add_header(response: rls_pb2.RateLimitResponse, key: str, value: str) -> None:
    response.response_headers_to_add.append(base_pb2.HeaderValue(key=key, value=value))
