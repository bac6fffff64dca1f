"""From the connection to the route: listener, certificate, what Envoy refuses by itself, route, browsers' checks."""

from collections.abc import Iterator, Sequence
from typing import Final

from gateway.explain import origins
from gateway.explain.asked import Asked
from gateway.explain.authentication import DENIED
from gateway.explain.explanation import Answer, Step
from gateway.explain.walk import Unexplained, Walk
from gateway.match import ANY_HOST, Lost
from gateway.model import Cors, Gateway, Listener, ListenerCertificate
from gateway.normal import authority
from gateway.problems import Path
from gateway.resolve import ResolvedRoute

PORTS: Final = {"http": 80, "https": 443}
PROTOCOLS: Final = {"http": "HTTP", "https": "HTTPS"}
CHANGES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
MOST_LOST: Final = 5
"""So many of the routes that did not get the request are shown; the JSON has all."""


def listener_of(gateway: Gateway, asked: Asked) -> str:
    """The listener of that scheme and port; the only one of the scheme if none has the port. Raises Unexplained."""
    if asked.request.listener is not None:
        if asked.request.listener in gateway.listeners:
            return asked.request.listener
        raise Unexplained(f"there is no listener {asked.request.listener!r}")
    port = asked.port or PORTS[asked.scheme]
    fitting = [name for name, one in gateway.listeners.items() if one.protocol == PROTOCOLS[asked.scheme]]
    exact = [name for name in fitting if gateway.listeners[name].port == port]
    if len(exact) == 1 or (not exact and len(fitting) == 1):
        return (exact or fitting)[0]
    several = ", ".join(exact or fitting) or "none"
    raise Unexplained(f"which listener takes {asked.scheme} on port {port}? There are: {several}")


# ---------------------------------------------------------------------------------------------------------- connection
def connection(walk: Walk) -> Iterator[Step]:
    spec, asked = walk.listener, walk.asked
    yield Step("listener", f"{asked.scheme} :{spec.port}  {walk.listener_name}", walk.listener_path, "ok")
    if asked.scheme == "https" and spec.tls is not None:
        yield certificate(walk, spec.tls.certificates)
    if spec.trusted_hops:
        text = f"the caller is {asked.address}, as trusted_hops {spec.trusted_hops} tells"
        yield Step("address", text, (*walk.listener_path, "trusted_hops"))


def certificate(walk: Walk, certificates: Sequence[ListenerCertificate]) -> Step:
    """The one whose names fit best, by the server name that the client sends (SNI)."""
    sni = (walk.asked.sni or walk.asked.request.host.partition(":")[0]).lower()
    path: Path = (*walk.listener_path, "tls", "certificates")
    best = max(range(len(certificates)), key=lambda index: rank(certificates[index], sni))
    if rank(certificates[best], sni) < 0:
        answer = Answer(None, "filter_chain_not_found")
        return Step(
            "certificate", f"sni {sni}: no certificate is for that name; the connection ends", path, "no", answer
        )
    found = certificates[best]
    return Step("certificate", f"sni {sni} -> {found.secret or found.cert_file}", (*path, best), "ok")


def rank(certificate: ListenerCertificate, sni: str) -> int:
    """How well its names fit: -1 not at all, 0 where it is for all others, else the longer the better."""
    if not certificate.hosts or "*" in certificate.hosts:
        return 0
    return max(
        (len(host) for host in certificate.hosts if host == sni or (host[:2] == "*." and sni.endswith(host[1:]))),
        default=-1,
    )


# --------------------------------------------------------------------------------------------------------------- route
def routing(walk: Walk) -> Iterator[Step]:
    decision, spec = walk.decision, walk.listener
    match decision.kind:
        case "refused":
            status = decision.status or 400
            yield Step("request", decision.reason, walk.listener_path, "no", Answer(status, ""))
        case "strict_path":
            path = (*walk.listener_path, "strict_paths")
            yield Step("request", f"{decision.path}: {decision.reason}", path, "no", Answer(403, DENIED))
        case "redirect":
            yield from redirected(walk, spec)
        case _:
            yield from normalised(walk)
            yield from hosted(walk)
            yield from routed(walk)


def redirected(walk: Walk, spec: Listener) -> Iterator[Step]:
    redirect = spec.redirect
    if redirect is None:
        return
    host = authority(walk.asked.request.host)
    port = f":{redirect.port}" if redirect.port is not None else ""
    query = walk.asked.request.target.partition("?")
    walk.location = f"{redirect.scheme}://{host}{port}{walk.decision.path}{query[1]}{query[2]}"
    text = f"every request is redirected ({redirect.status}) to {walk.location}"
    path = (*walk.listener_path, "redirect")
    yield Step("redirect", text, path, "ok", Answer(redirect.status, "direct_response"))


def normalised(walk: Walk) -> Iterator[Step]:
    """Only where it changed: one spelling of host and path."""
    request, path = walk.asked.request, walk.decision.path
    if request.target.partition("?")[0] != path:
        yield Step("path", f"normalised to {path}")
    host = authority(request.host)
    if isinstance(host, str) and host.lower() != request.host and host.lower() != request.host.partition(":")[0]:
        yield Step("path", f"the host is taken as {host.lower()}")


def hosted(walk: Walk) -> Iterator[Step]:
    host = walk.decision.host
    if host != ANY_HOST:
        yield Step("host", host, None, "ok")


def routed(walk: Walk) -> Iterator[Step]:
    decision = walk.decision
    lost = {"lost": [{"route": one.route.full_name, "reason": one.reason} for one in decision.lost]}
    if decision.kind == "unmatched":
        text = f"none of host {decision.host} takes {walk.asked.request.method} {decision.path}"
        yield Step("route", text, None, "no", Answer(404, "direct_response"), facts=lost)
        yield from losers(decision.lost)
    elif decision.kind == "preflight":
        yield from preflight(walk)
    elif decision.route is not None:
        beat = beaten(decision.lost)
        yield Step("route", decision.route.full_name + beat, decision.route.path, "ok", facts=lost)
        yield from () if beat else losers(decision.lost)


def beaten(lost: Sequence[Lost]) -> str:
    """One or two that came near: their path fits."""
    near = [one for one in lost if one.reason != "path"]
    if not 0 < len(near) <= 2:
        return ""
    return "   (beat: " + ", ".join(f"{one.route.name} — {one.reason}" for one in near) + ")"


def losers(lost: Sequence[Lost]) -> Iterator[Step]:
    for one in lost[:MOST_LOST]:
        yield Step("", f"not {one.route.full_name}: {one.reason}", one.route.path)
    if len(lost) > MOST_LOST:
        yield Step("", f"and {len(lost) - MOST_LOST} more")


# ------------------------------------------------------------------------------------------------------------ browsers
def preflight(walk: Walk) -> Iterator[Step]:
    """A preflight is answered before anybody is asked for credentials. One from elsewhere is refused."""
    route = walk.decision.route or any_route(walk)
    cors = route.cors if route is not None else None
    if route is None or cors is None:
        return
    name = route.full_name if walk.decision.route else f"host {walk.decision.host}"
    yield Step("route", f"preflight of {name}", route.path, "ok")
    origin, path = walk.asked.header("origin"), (*walk.written(route, "cors"), "allow_origins")
    if answers_preflight(walk, cors):
        yield Step("cors", f"{origin} is let in", path, "ok", Answer(200, "cors_response"))
    else:
        yield Step("cors", f"{origin or 'no origin'} is not among those let in", path, "no", Answer(403, DENIED))


def answers_preflight(walk: Walk, cors: Cors) -> bool:
    origin, method = walk.asked.header("origin"), walk.asked.header("access-control-request-method")
    return bool(origin and method and walk.asked.request.method == "OPTIONS" and origins.allows(cors, origin))


def any_route(walk: Walk) -> ResolvedRoute | None:
    """One of a host whose routes all have the same policy."""
    table = walk.index.tables[walk.listener_name][walk.decision.host]
    return next((candidate.route for candidate in table.all()), None)


def cors(walk: Walk) -> Iterator[Step]:
    """A route that takes OPTIONS and sends on may get a preflight of a neighbour: Envoy answers that too."""
    route, origin = walk.route, walk.asked.header("origin")
    if route is None or route.cors is None or not origin:
        return
    path = (*walk.written(route, "cors"), "allow_origins")
    if route.route.backends is not None and answers_preflight(walk, route.cors):
        yield Step("cors", f"a preflight, and {origin} is let in", path, "ok", Answer(200, "cors_response"))
        return
    word = "may read the answer" if origins.allows(route.cors, origin) else "may not read the answer"
    yield Step("cors", f"pages of {origin} {word}", path)


def csrf(walk: Walk) -> Iterator[Step]:
    """A change comes from a page of this host, or of one that is trusted."""
    route = walk.route
    policy = route.traffic.csrf if route is not None else None
    if route is None or policy is None or walk.asked.request.method not in CHANGES:
        return
    path = walk.written(route, "csrf")
    source = origins.source(walk.asked.header("origin"), walk.asked.header("referer"))
    host = authority(walk.asked.request.host)
    own = {str(host)} | own_pages(walk, route)
    if source and origins.trusts(policy, source, own):
        yield Step("csrf", f"the page is from {source}", path, "ok")
    else:
        text = f"a change from a page of {source or 'nobody knows where'}"
        yield Step("csrf", text, path, "no", Answer(403, "csrf_origin_mismatch"))


def own_pages(walk: Walk, route: ResolvedRoute) -> set[str]:
    """Browsers write a port that is not the scheme's own; Envoy has taken it off the host."""
    port = walk.asked.port or walk.listener.port
    return set() if port in (80, 443) else {f"{host}:{port}" for host in route.hosts if "*" not in host}
