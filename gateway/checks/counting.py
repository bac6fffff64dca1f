"""How a limit is counted: words that go together, and numbers that the decision service can hold exactly."""

from collections.abc import Iterator
from typing import Final

from gateway.model import LimitDescriptor, RateLimit, written_in
from gateway.problems import Path, Problem

MOST_BURST: Final = 1 << 52
"""Of requests times milliseconds: what a counter's arithmetic holds (`policy.ratelimit.bucket`)."""
LONGEST_LOG: Final = 10_000
"""Hits: each is kept for a whole window (`policy.ratelimit.log`)."""
EXACT_ONLY: Final = ("algorithm", "cost_from", "count_denied", "on_error")


def problems_of(limit: RateLimit, path: Path) -> Iterator[Problem]:
    """Of one limit of a tier, a module or a route."""
    if limit.cost > limit.limit.requests > 0 and limit.cost_from is None:
        message = f"one request costs {limit.cost}, more than the limit of {limit.limit}: none would pass"
        yield Problem("GW345", (*path, "cost"), message)
    if limit.burst is not None and limit.cost > limit.burst and limit.cost_from is None:
        message = f"one request costs {limit.cost}, more than the burst of {limit.burst}: none would pass"
        yield Problem("GW345", (*path, "cost"), message)
    yield from burst(limit, path)
    if limit.mode == "exact":
        yield from algorithm(limit, path)
        return
    for word in EXACT_ONLY:
        if word in written_in(limit):
            yield Problem("GW347", (*path, word), f"a limit of `mode: {limit.mode}` has no `{word}`", "remove it")


def burst(limit: RateLimit | LimitDescriptor, path: Path) -> Iterator[Problem]:
    """A burst that never comes back, or that cannot be counted exactly."""
    if limit.burst is None or limit.limit is None:
        return
    place = (*path, "burst")
    if limit.limit.requests == 0:
        yield Problem("GW346", place, "a burst of a limit of zero never comes back", "leave out the burst")
    if limit.burst * limit.limit.seconds * 1000 > MOST_BURST:
        message = f"a burst of {limit.burst} per {limit.limit.unit} cannot be counted exactly"
        yield Problem("GW346", place, message, f"at most {MOST_BURST // (limit.limit.seconds * 1000)}")


def algorithm(limit: RateLimit | LimitDescriptor, path: Path) -> Iterator[Problem]:
    place = (*path, "algorithm")
    if limit.algorithm == "gcra" and limit.burst is None:
        yield Problem("GW347", place, "`gcra` needs a `burst`: how many may come at once", "add `burst`")
    if limit.algorithm not in (None, "gcra") and limit.burst is not None:
        yield Problem("GW347", place, f"`{limit.algorithm}` has no `burst`", "write `algorithm: gcra`, or no `burst`")
    if limit.algorithm == "log" and limit.limit is not None and limit.limit.requests > LONGEST_LOG:
        message = f"a log keeps each of {limit.limit.requests} requests, for one {limit.limit.unit}"
        yield Problem("GW347", place, message, f"use `sliding`; a log is for limits up to {LONGEST_LOG}")
    if isinstance(limit, RateLimit) and limit.count_denied and (limit.algorithm in ("log", "gcra") or limit.burst):
        message = "what is refused can only be counted in windows"
        yield Problem("GW347", (*path, "count_denied"), message, "use `algorithm: sliding` or `fixed`")
