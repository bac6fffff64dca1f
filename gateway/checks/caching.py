"""Response caches: ones that can keep nothing, that keep too much, or that keep less than their author may think."""

from collections.abc import Iterator
from typing import Final

from gateway.checks.scope import Scope
from gateway.model import Cache, Route
from gateway.problems import Path, Problem
from gateway.resolve import ResolvedRoute

LONGEST: Final = 7 * 86_400_000
LARGEST: Final = 8 * 2**20
"""Bytes: an answer stands in the memory of three processes while it is put away or sent."""
LOOKED_AT: Final = frozenset({"range", "if-range", "if-match", "if-unmodified-since", "upgrade"})
"""Who sends one of these is never answered from the cache."""


def problems(scope: Scope) -> Iterator[Problem]:
    for path, level in scope.levels():
        if isinstance(level.cache, Cache):
            yield from _bounds(level.cache, (*path, "cache"))
    for route in scope.routes:
        if isinstance(route.route.cache, Cache):  # one that is inherited was meant for other routes
            yield from _of_route(route)


def _bounds(cache: Cache, path: Path) -> Iterator[Problem]:
    if cache.ttl == 0:
        yield Problem("GW365", (*path, "ttl"), "ttl may not be zero", "write `cache: none` to keep nothing")
    if cache.ttl > LONGEST:
        yield Problem("GW398", (*path, "ttl"), "nothing is kept for longer than 7 days", "write 7d or less")
    if cache.max_size > LARGEST:
        yield Problem("GW398", (*path, "max_size"), "nothing longer than 8MiB is kept", "write 8MiB or less")
    if cache.max_size == 0:
        yield Problem("GW389", (*path, "max_size"), "no answer is short enough", "write a size, or `cache: none`")
    for index, name in enumerate(cache.vary_by.headers if cache.vary_by is not None else ()):
        if name in LOOKED_AT:
            message = f"a request with '{name}' is never answered from the cache"
            yield Problem("GW389", (*path, "vary_by", "headers", index), message, "remove it")


def _of_route(route: ResolvedRoute) -> Iterator[Problem]:
    path = (*route.path, "cache")
    reason = _why_nothing(route.route)
    if reason is not None:
        yield Problem("GW389", path, f"nothing can be kept: {reason}", "remove it, or write `cache: none`")
    elif route.authentication != "none":
        message = "the callers of this route are known: an answer is kept only if it says that it is for all of them"
        help_ = "let the upstream say `Cache-Control: public` (or `s-maxage`) where that is so"
        yield Problem("GW397", path, message, help_, "warning")


def _why_nothing(route: Route) -> str | None:
    if route.backends is None:
        return "the gateway answers this route by itself"
    if route.match.grpc is not None:
        return "gRPC calls are POST requests"
    if route.match.methods and "GET" not in route.match.methods:
        return "only answers to GET are kept"
    return None
