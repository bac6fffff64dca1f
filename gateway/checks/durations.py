"""Durations that would mean something else at zero: for Envoy a timeout of zero is none at all."""

from collections.abc import Iterator

from gateway.checks.scope import Scope
from gateway.model import DnsUpstream, OutlierDetection, Retry, Upstream
from gateway.problems import Path, Problem

Field = tuple[Path, int | None]
"""A duration's place and its milliseconds, None if it is not written."""


def problems(scope: Scope) -> Iterator[Problem]:
    for path, milliseconds in _fields(scope):
        if milliseconds == 0:
            yield Problem("GW365", path, f"{path[-1]} may not be zero", "leave it out for the default")
    for path, level in scope.levels():
        if isinstance(level.retry, Retry) and level.retry.backoff.max < level.retry.backoff.base:
            message = f"the maximum ({level.retry.backoff.max} ms) is below the base ({level.retry.backoff.base} ms)"
            yield Problem("GW366", (*path, "retry", "backoff"), message, "make max the larger one")


def _fields(scope: Scope) -> Iterator[Field]:
    for name, upstream in scope.gateway.upstreams.items():
        yield from _of_upstream(upstream, ("upstreams", name))
    for name, provider in scope.gateway.jwt_providers.items():
        yield ("jwt_providers", name, "max_lifetime"), provider.max_lifetime
    for path, level in scope.levels():
        if level.timeouts is not None:
            yield (*path, "timeouts", "request"), level.timeouts.request
            yield (*path, "timeouts", "idle"), level.timeouts.idle
            yield (*path, "timeouts", "stream"), level.timeouts.stream
        if isinstance(level.retry, Retry):
            yield (*path, "retry", "per_try_timeout"), level.retry.per_try_timeout
            yield (*path, "retry", "per_try_idle_timeout"), level.retry.per_try_idle_timeout
            yield (*path, "retry", "backoff", "base"), level.retry.backoff.base


def _of_upstream(upstream: Upstream, path: Path) -> Iterator[Field]:
    yield (*path, "connect_timeout"), upstream.connect_timeout
    if upstream.health_check is not None:
        yield (*path, "health_check", "interval"), upstream.health_check.interval
        yield (*path, "health_check", "timeout"), upstream.health_check.timeout
    if isinstance(upstream.outlier_detection, OutlierDetection):
        yield (*path, "outlier_detection", "interval"), upstream.outlier_detection.interval
        yield (*path, "outlier_detection", "base_ejection_time"), upstream.outlier_detection.base_ejection_time
    yield (*path, "connection", "idle_timeout"), upstream.connection.idle_timeout
    yield (*path, "connection", "max_duration"), upstream.connection.max_duration
    if upstream.load_balancing.slow_start is not None:
        yield (*path, "load_balancing", "slow_start", "window"), upstream.load_balancing.slow_start.window
    if isinstance(upstream, DnsUpstream):
        yield (*path, "dns", "refresh"), upstream.dns.refresh
