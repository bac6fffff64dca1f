"""From the caller to the answer: limits, faults, what the gateway answers itself, and what goes to which upstream."""

from collections.abc import Iterator
from typing import Final

from gateway.explain.explanation import Answer, Possible, Step
from gateway.explain.rewriting import location, rewritten
from gateway.explain.walk import Walk
from gateway.explain.wording import duration
from gateway.limits import entry_keys
from gateway.model import Backend, HeaderEdits, RateLimit, Upstream
from gateway.normal import authority
from gateway.problems import Path
from gateway.resolve import ResolvedRoute

IDEMPOTENT: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"})  # RFC 9110 9.2.2
UNAVAILABLE: Final = Possible(503, "no endpoint of the upstream is healthy, or its circuit breaker is open")
COUNTED: Final = {"local": "counted by each Envoy", "quota": "shared out among the Envoys", "exact": ""}
"""By `mode`, in the order of Envoy's filters."""
Limit = tuple[Path, RateLimit, str]
"""Where it is written, the limit, and what shares its counter."""


# -------------------------------------------------------------------------------------------------------------- limits
def limits(walk: Walk) -> Iterator[Step]:
    route = walk.route
    if route is None:
        return
    modes = list(COUNTED)
    for path, limit, shared in sorted(limits_of(walk, route), key=lambda one: modes.index(one[1].mode)):
        by_envoy = limit.mode != "exact" and path[0] != "tiers"
        if by_envoy or route.route.backends is not None:  # Envoy asks nobody about what it answers itself
            yield limited(walk, route, path, limit, shared)


def limits_of(walk: Walk, route: ResolvedRoute) -> Iterator[Limit]:
    """Of the caller's tier, the floor, the module and the route."""
    tier = route.tier if route.authentication == "none" else walk.caller.tier if walk.caller else None
    own = walk.gateway.tiers.get(tier or "")
    for index, limit in enumerate(own.rate_limits if own is not None else ()):
        who = "nobody in particular" if route.authentication == "none" else f"tier {tier}"
        yield ("tiers", str(tier), "rate_limits", index), limit, f"one counter for all routes, for {who}"
    sources = (
        (("floor",), walk.gateway.floor.rate_limits),
        (("modules", route.module), walk.gateway.modules[route.module].rate_limits or ()),
        (route.path, route.route.rate_limits or ()),
    )
    for base, found in sources:
        for index, limit in enumerate(found):
            yield (*base, "rate_limits", index), limit, "the route's own counter"


def limited(walk: Walk, route: ResolvedRoute, path: Path, limit: RateLimit, shared: str) -> Step:
    keys = [value_of(walk, route, key) for key in entry_keys(limit, anonymous=route.authentication == "none")]
    name = f"{limit.name} " if limit.name else ""
    brief = f"rate limit {name}{limit.limit} per {'+'.join(limit.keys)}"
    words = [brief.removeprefix("rate limit "), f"[{', '.join(keys)}]" if keys else "", shared]
    words += [f"burst {limit.burst}"] if limit.burst else []
    words += [f"cost {limit.cost}"] if limit.cost > 1 else []
    words += filter(None, [COUNTED[limit.mode]])
    words += ["(shadow: never refuses)"] if limit.shadow else []
    facts = {
        "limit": str(limit.limit),
        "per": list(limit.keys),
        "mode": limit.mode,
        "shadow": limit.shadow,
        "keys": keys,
    }
    defaults = walk.gateway.rate_limit_defaults
    status, details = defaults.response.status, "request_rate_limited" if defaults.decision == "separate" else ""
    if limit.limit.requests == 0 and not limit.shadow:
        return Step("limit", brief, path, "no", Answer(status, details), brief=brief, facts=facts)
    possible = () if limit.shadow else (Possible(status, f"over {brief}"),)
    return Step("limit", "  ".join(filter(None, words)), path, "note", None, possible, brief, facts)


def value_of(walk: Walk, route: ResolvedRoute, key: str) -> str:
    """What the limit counts by, for this request."""
    caller = walk.caller
    match key:
        case "remote_address":
            return f"ip={walk.asked.address}"
        case "route":
            return f"route={route.full_name}"
        case "client":
            return f"client={(caller.client if caller else '') or '-'}"
        case _:
            claim = key.removeprefix("claim:")
            return f"{claim}={(caller.claim(claim) if caller else None) or '-'}"


# -------------------------------------------------------------------------------------------------------------- faults
def faults(walk: Walk) -> Iterator[Step]:
    route = walk.route
    fault = route.traffic.fault_injection if route is not None else None
    if route is None or fault is None:
        return
    path = walk.written(route, "fault_injection")
    if fault.delay is not None:
        text = f"{fault.delay.percentage:g}% wait {duration(fault.delay.fixed_delay)}"
        yield Step("fault", text, path, brief="fault injection")
    if fault.abort is None:
        return
    status = fault.abort.status or 200
    text = f"{fault.abort.percentage:g}% are aborted with {fault.abort.status or f'gRPC {fault.abort.grpc_status}'}"
    if fault.abort.percentage >= 100:
        yield Step("fault", text, path, "no", Answer(status, "fault_filter_abort"), brief="fault injection")
    elif fault.abort.percentage > 0:
        possible = (Possible(status, "fault injection"),)
        yield Step("fault", text, path, "note", None, possible, "fault injection")


def treatment(walk: Walk) -> Iterator[Step]:
    """What is done to the request or its answer on the way, and decides nothing."""
    route = walk.route
    if route is None:
        return
    traffic = route.traffic
    if traffic.cache is not None and walk.asked.request.method in ("GET", "HEAD"):
        text = f"an answer may come out of the cache, up to {duration(traffic.cache.ttl)} old"
        yield Step("cache", text, walk.written(route, "cache"), brief="cache")
    if traffic.request_buffer is not None:
        limit = traffic.request_buffer.limit
        possible = (Possible(413, f"a body of more than {limit} bytes"),)
        path = walk.written(route, "request_buffer")
        yield Step("body", f"held back until it is whole, {limit} bytes at most", path, "note", None, possible)
    if traffic.compression is not None:
        text = f"answers may be compressed: {', '.join(traffic.compression.types)}"
        yield Step("body", text, walk.written(route, "compression"))
    if traffic.bandwidth_limit is not None:
        yield Step("body", "bandwidth is limited", walk.written(route, "bandwidth_limit"))
    yield from edits(walk, route)


def edits(walk: Walk, route: ResolvedRoute) -> Iterator[Step]:
    for field, where in (("request_headers", "to the upstream"), ("response_headers", "to the caller")):
        found: HeaderEdits = getattr(route, field)
        names = [f"{name}=" for name in found.set] + [f"+{name}" for name in found.add]
        names += [f"-{name}" for name in found.remove]
        if names:
            yield Step("headers", f"{where}: {' '.join(names)}", walk.written(route, field))


# -------------------------------------------------------------------------------------------------------------- answer
def answer(walk: Walk) -> Iterator[Step]:
    route = walk.route
    if route is None:
        return
    spec = route.route
    if spec.respond is not None:
        status = spec.respond.status
        text = f"the gateway answers {status} itself"
        yield Step("answer", text, (*route.path, "respond"), "ok", Answer(status, "direct_response"), brief="answer")
    elif spec.redirect is not None:
        walk.location = location(
            spec.redirect,
            route.match.where,
            walk.listener,
            scheme=walk.asked.scheme,
            host=str(authority(walk.asked.request.host)),
            target=walk.decision.path + query_of(walk),
        )
        text = f"{spec.redirect.status} to {walk.location}"
        path = (*route.path, "redirect")
        yield Step("redirect", text, path, "ok", Answer(spec.redirect.status, "direct_response"), brief="redirect")
    elif spec.backends is not None:
        yield from rewrite(walk, route)
        yield from sending(walk, route, spec.backends)


def query_of(walk: Walk) -> str:
    _, mark, query = walk.asked.request.target.partition("?")
    return mark + query


def query_upstream(walk: Walk, route: ResolvedRoute) -> str:
    """Where parameters are taken off because they may be keys, Envoy writes the others anew, in an order of its own."""
    query = query_of(walk)
    sources = (walk.gateway.api_keys[name] for name in route.authenticated_by(walk.gateway.api_keys))
    return "?…" if query and any(source.strip and source.from_.query for source in sources) else query


def rewrite(walk: Walk, route: ResolvedRoute) -> Iterator[Step]:
    spec, path = route.route.rewrite, walk.decision.path
    walk.upstream_path = path + query_upstream(walk, route)
    if spec is None:
        return
    if spec.path is not None:
        after = rewritten(path, spec.path, route.match.where)
        walk.upstream_path = after + query_upstream(walk, route)
        yield Step("rewrite", f"path {path} -> {after}", (*route.path, "rewrite", "path"), brief="rewrite")
    if spec.host is not None:
        walk.upstream_host = spec.host
        yield Step("rewrite", f"host -> {spec.host}", (*route.path, "rewrite", "host"), brief="rewrite")
    elif spec.auto_host:
        yield Step("rewrite", "host -> the upstream's own name", (*route.path, "rewrite", "auto_host"), brief="rewrite")


def sending(walk: Walk, route: ResolvedRoute, backends: tuple[Backend, ...]) -> Iterator[Step]:
    total = sum(backend.weight for backend in backends) or 1
    for index, backend in enumerate(backends):
        share = "" if len(backends) == 1 else f"  {100 * backend.weight / total:.3g}%"
        text = backend.upstream + share + chosen_by(walk.gateway.upstreams[backend.upstream])
        facts = {"upstream": backend.upstream, "weight": backend.weight}
        path = (*route.path, "backends", index)
        yield Step("upstream", text, path, brief=f"upstream {backend.upstream}", facts=facts)
    facts = {"request_ms": route.timeouts.request}
    yield Step("timeouts", timeouts(route), walk.written(route, "timeouts"), facts=facts)
    if (policy := route.retry) is not None:
        yield retry(walk, route, policy.attempts)
    if (mirror := route.route.mirror) is not None:
        text = f"a copy of {mirror.percent:g}% goes to {mirror.upstream}"
        yield Step("mirror", text, (*route.path, "mirror"), brief=f"mirror {mirror.upstream}")
    late = Possible(504, f"no answer within {duration(route.timeouts.request)}")
    yield Step("answer", "the upstream's", None, "ok", Answer(None, "via_upstream", "upstream"), (UNAVAILABLE, late))


def chosen_by(upstream: Upstream) -> str:
    """How one of its endpoints is found."""
    balancing = upstream.load_balancing
    if balancing.hash_on is None:
        return f"  ({balancing.policy})"
    ((kind, value),) = balancing.hash_on.model_dump(exclude_none=True, exclude_unset=True).items()
    name = value["name"] if isinstance(value, dict) else value
    return f"  ({balancing.policy} by {kind}{'' if name is True else f' {name}'})"


def timeouts(route: ResolvedRoute) -> str:
    found = [f"request {duration(route.timeouts.request)}", f"idle {duration(route.timeouts.idle)}"]
    if route.timeouts.stream is not None:
        found.append(f"stream {duration(route.timeouts.stream)}")
    return " · ".join(found)


def retry(walk: Walk, route: ResolvedRoute, attempts: int) -> Step:
    path = walk.written(route, "retry")
    if route.retry_inherited and walk.asked.request.method not in IDEMPOTENT:
        return Step("retry", f"none: an inherited policy does not repeat a {walk.asked.request.method}", path)
    return Step("retry", f"{attempts} more at most", path)
