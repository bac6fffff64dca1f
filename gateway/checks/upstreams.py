"""Upstreams: addresses that Envoy can use, and health checks that can pass."""

from collections.abc import Iterator

from gateway.checks.addresses import is_dns_name, is_ip
from gateway.checks.scope import Scope
from gateway.model import DnsUpstream, HealthCheck, StaticUpstream
from gateway.problems import Path, Problem


def problems(scope: Scope) -> Iterator[Problem]:
    for name, upstream in scope.gateway.upstreams.items():
        path = ("upstreams", name)
        if isinstance(upstream, StaticUpstream):
            yield from _endpoints(upstream, path)
        else:
            yield from _host(upstream, path)
        if upstream.health_check is not None:
            yield from _health_check(upstream.health_check, (*path, "health_check"))


def _endpoints(upstream: StaticUpstream, path: Path) -> Iterator[Problem]:
    first: dict[tuple[str, int], int] = {}
    for index, endpoint in enumerate(upstream.endpoints):
        place = (*path, "endpoints", index)
        if not is_ip(endpoint.address):
            message = f"the address '{endpoint.address}' is not an IP address"
            yield Problem("GW361", (*place, "address"), message, "names need `type: dns` with `host` and `port`")
        before = first.setdefault((endpoint.address, endpoint.port), index)
        if before != index:
            message = f"endpoint {index} is the same as endpoint {before}"
            yield Problem("GW362", place, message, "use `weight` to send more to an endpoint")


def _host(upstream: DnsUpstream, path: Path) -> Iterator[Problem]:
    if not is_dns_name(upstream.host):
        message = f"the host '{upstream.host}' is not a name that can be resolved"
        yield Problem("GW361", (*path, "host"), message, "write only the name: no scheme, port or path")


def _health_check(check: HealthCheck, path: Path) -> Iterator[Problem]:
    for index, status in enumerate(check.http.expected_statuses):
        first, _, last = status.partition("-")
        if last and int(last) < int(first):
            place = (*path, "http", "expected_statuses", index)
            yield Problem("GW364", place, f"the range {status} is empty", f"write {last}-{first}")
    if check.timeout > check.interval:
        message = "the health check's timeout is longer than its interval"
        yield Problem("GW363", (*path, "timeout"), message, severity="warning")
