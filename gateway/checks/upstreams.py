"""Upstreams: addresses that Envoy can use, health checks that can pass, load balancing that does what it says."""

from collections.abc import Iterator, Sequence

from gateway.checks.addresses import is_dns_name, is_ip
from gateway.checks.scope import Scope
from gateway.model import DnsUpstream, Endpoint, HealthCheck, LoadBalancing, StaticUpstream, Upstream
from gateway.problems import Path, Problem
from gateway.resolve import ResolvedRoute


def problems(scope: Scope) -> Iterator[Problem]:
    for name, upstream in scope.gateway.upstreams.items():
        path = ("upstreams", name)
        if isinstance(upstream, StaticUpstream):
            yield from endpoints(upstream.endpoints, (*path, "endpoints"))
        elif isinstance(upstream, DnsUpstream):
            yield from _host(upstream, path)
        yield from _unwatched(upstream, path)
        yield from _load_balancing(upstream.load_balancing, (*path, "load_balancing"))
        yield from _zones(upstream, (*path, "load_balancing", "zone_aware"))
        if upstream.health_check is not None:
            yield from _health_check(upstream.health_check, (*path, "health_check"))
            yield from _grpc_check(upstream, (*path, "health_check", "grpc"))
    for route in scope.routes:
        yield from _of_route(scope, route)


def endpoints(found: Sequence[Endpoint], path: Path) -> Iterator[Problem]:
    """What Envoy would refuse in a list of endpoints, or count twice; `path` is the list's."""
    first: dict[tuple[str, int], int] = {}
    for index, endpoint in enumerate(found):
        if not is_ip(endpoint.address):
            message = f"the address '{endpoint.address}' is not an IP address"
            yield Problem("GW361", (*path, index, "address"), message, "names need `type: dns` with `host` and `port`")
        before = first.setdefault((endpoint.address, endpoint.port), index)
        if before != index:
            message = f"endpoint {index} is the same as endpoint {before}"
            yield Problem("GW362", (*path, index), message, "use `weight` to send more to an endpoint")
    yield from _priorities(found, path)


def _priorities(found: Sequence[Endpoint], path: Path) -> Iterator[Problem]:
    written = {endpoint.priority for endpoint in found}
    missing = next((number for number in range(len(written)) if number not in written), None)
    if missing is not None:
        index = next(i for i, endpoint in enumerate(found) if endpoint.priority > missing)
        message = f"no endpoint has priority {missing}, and this one has {found[index].priority}"
        yield Problem("GW372", (*path, index, "priority"), message, "number the priorities 0, 1, 2 without a gap")


def _host(upstream: DnsUpstream, path: Path) -> Iterator[Problem]:
    if not is_dns_name(upstream.host):
        message = f"the host '{upstream.host}' is not a name that can be resolved"
        yield Problem("GW361", (*path, "host"), message, "write only the name: no scheme, port or path")


def _unwatched(upstream: Upstream, path: Path) -> Iterator[Problem]:
    if upstream.health_check is None and upstream.outlier_detection == "none":
        message = "a broken endpoint keeps getting requests: there are no health checks, and outlier detection is off"
        help_ = "write `health_check`, or leave `outlier_detection` at its default"
        yield Problem("GW370", (*path, "outlier_detection"), message, help_, "warning")


def _load_balancing(spec: LoadBalancing, path: Path) -> Iterator[Problem]:
    if spec.hashes and spec.hash_on is None:
        message = f"{spec.policy} chooses by a hash, and nothing says of what"
        yield Problem("GW371", (*path, "policy"), message, "write `hash_on`, such as `hash_on: {ip: true}`")
    if spec.hash_on is not None and not spec.hashes:
        message = f"{spec.policy} does not look at a hash"
        yield Problem("GW371", (*path, "hash_on"), message, "use `policy: ring_hash` or `policy: maglev`")
    if spec.slow_start is not None and spec.policy not in ("round_robin", "least_request"):
        message = f"{spec.policy} has no slow start"
        yield Problem("GW376", (*path, "slow_start"), message, "use `policy: round_robin` or `policy: least_request`")
    if spec.zone_aware and spec.hashes:
        message = f"{spec.policy} takes the endpoint of the hash, in whatever zone it is"
        yield Problem("GW376", (*path, "zone_aware"), message, "use another policy, or leave `zone_aware` out")


def _zones(upstream: Upstream, path: Path) -> Iterator[Problem]:
    """Of a service nobody knows the zones here; what DNS finds never has one."""
    if not upstream.load_balancing.zone_aware or upstream.load_balancing.hashes:
        return
    static = isinstance(upstream, StaticUpstream)
    without = isinstance(upstream, StaticUpstream) and not any(one.zone for one in upstream.endpoints)
    if without or isinstance(upstream, DnsUpstream):
        help_ = "write the `zone` of each endpoint" if static else "use `type: static` or `type: eds`"
        yield Problem("GW373", path, "no endpoint of this upstream is in a zone", help_, "warning")


def _health_check(check: HealthCheck, path: Path) -> Iterator[Problem]:
    for index, status in enumerate(check.http.expected_statuses if check.http else ()):
        first, _, last = status.partition("-")
        if last and int(last) < int(first):
            place = (*path, "http", "expected_statuses", index)
            yield Problem("GW364", place, f"the range {status} is empty", f"write {last}-{first}")
    if check.timeout > check.interval:
        message = "the health check's timeout is longer than its interval"
        yield Problem("GW363", (*path, "timeout"), message, severity="warning")


def _grpc_check(upstream: Upstream, path: Path) -> Iterator[Problem]:
    spoken = set(upstream.tls.alpn) if upstream.tls and upstream.tls.alpn else {upstream.protocol}
    if upstream.health_check is None or upstream.health_check.grpc is None or spoken <= {"h2", "http2", "grpc"}:
        return
    yield Problem("GW375", path, "a gRPC health check needs HTTP/2", "write `protocol: grpc`, or use another check")


def _of_route(scope: Scope, route: ResolvedRoute) -> Iterator[Problem]:
    spec = route.route
    if spec.session_persistence is not None and spec.backends is None:
        message = f"{route.full_name} reaches no upstream: there is no endpoint to keep a session at"
        yield Problem("GW377", (*route.path, "session_persistence"), message, "leave it out")
    known = scope.gateway.upstreams
    hashes = [known[b.upstream].load_balancing.hash_on for b in spec.backends or () if b.upstream in known]
    if len({repr(found) for found in hashes if found is not None}) > 1:
        message = f"the backends of {route.full_name} are chosen by different hashes, and a request has one"
        yield Problem("GW374", (*route.path, "backends"), message, "give their upstreams the same `hash_on`")
