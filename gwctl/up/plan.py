"""What a run must know of its document before it starts: ports, upstreams to stand in for, secrets, an example call."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from gateway.model import AnyOf, DnsUpstream, EdsUpstream, Gateway, Upstream
from gateway.resolve import ResolvedRoute, resolve
from gateway.secrets import referenced
from gwctl.up.ports import Ports, is_free

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost"})


@dataclass(frozen=True, slots=True)
class Sample:
    """A route that a caller with an API key or a token of the lowest tier may GET, for the lines that are printed."""

    path: str
    tier: str
    host: str | None = None
    key_header: str | None = None
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """`listeners`: port by name; `schemes`: http or https by name; `demo`: port of each upstream to stand in for."""

    listeners: Mapping[str, int]
    schemes: Mapping[str, str]
    demo: Mapping[str, int]
    busy: Mapping[str, int]
    secrets: tuple[str, ...]
    sample: Sample | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def from_json(written: Mapping[str, Any]) -> Plan | None:
    """The plan of the last run, None if it was of another version."""
    try:
        sample = Sample(**written["sample"]) if written["sample"] else None
        ports = {part: dict(written[part]) for part in ("listeners", "schemes", "demo")}
        return Plan(**ports, busy={}, secrets=tuple(written["secrets"]), sample=sample)
    except (KeyError, TypeError):
        return None


def plan(gateway: Gateway, first_port: int | None, ports: Ports) -> Plan:
    """Takes the ports of the listeners from `ports`; `first_port` is for the first HTTP listener.

    Raises OSError if `first_port` is taken.
    """
    demo, busy = upstreams_here(gateway)
    wanted = {name: listener.port for name, listener in gateway.listeners.items()}
    schemes = {name: listener.protocol.lower() for name, listener in gateway.listeners.items()}
    return Plan(
        listeners=listener_ports(wanted, schemes, first_port, ports),
        schemes=schemes,
        demo=demo,
        busy=busy,
        secrets=tuple(sorted(secret.name for secret in referenced(gateway) if secret.kind == "hs256")),
        sample=sample(gateway),
    )


def listener_ports(
    wanted: Mapping[str, int], schemes: Mapping[str, str], first_port: int | None, ports: Ports
) -> dict[str, int]:
    """The document's port where it is free and needs no privilege, else some other one."""
    first = next((name for name in wanted if schemes[name] == "http"), next(iter(wanted), None))
    chosen: dict[str, int] = {}
    if first is not None and first_port is not None:
        taken = ports.take(first_port)
        if taken is None:
            raise OSError(f"port {first_port} is in use")
        chosen[first] = taken
    for name, port in wanted.items():
        if name not in chosen:
            chosen[name] = ports.any(port) if port >= 1024 else ports.any()
    return chosen


def upstreams_here(gateway: Gateway) -> tuple[dict[str, int], dict[str, int]]:
    """Upstreams on this machine: those that nobody serves, and those that somebody does, with their ports."""
    found = {name: port for name, upstream in gateway.upstreams.items() if (port := _local_port(upstream))}
    free = {name: port for name, port in found.items() if is_free(port, shared=True)}
    return free, {name: port for name, port in found.items() if name not in free}


def _local_port(upstream: Upstream) -> int | None:
    if isinstance(upstream, EdsUpstream):
        return None
    if isinstance(upstream, DnsUpstream):
        return upstream.port if upstream.host in LOOPBACK else None
    return next((endpoint.port for endpoint in upstream.endpoints if endpoint.address in LOOPBACK), None)


def sample(gateway: Gateway) -> Sample | None:
    """The first route, by tier, that can be shown; None if the gateway has none like it."""
    ranks = {tier: rank for rank, tier in enumerate(gateway.tiers)}
    routes = sorted(
        (route for route in resolve(gateway) if _showable(route)), key=lambda r: (ranks.get(r.tier, 0), r.module)
    )
    return _sample(gateway, routes[0]) if routes else None


def _showable(route: ResolvedRoute) -> bool:
    match = route.match
    plain = not match.headers and not match.query and (not match.methods or "GET" in match.methods)
    shown_by_one = isinstance(route.authentication, AnyOf) and not route.authorization
    return plain and shown_by_one and route.route.backends is not None and _path(route) is not None


def _sample(gateway: Gateway, route: ResolvedRoute) -> Sample:
    keys = route.authenticated_by(gateway.api_keys)
    providers = [
        name
        for name in route.authenticated_by(gateway.jwt_providers)
        if gateway.jwt_providers[name].jwks.hs256 is not None
    ]
    host = route.hosts[0]
    return Sample(
        path=_path(route) or "/",
        tier=route.tier,
        host=None if host == "*" else host.replace("*", "www"),
        key_header=next(iter(gateway.api_keys[keys[0]].from_.headers), None) if keys else None,
        provider=providers[0] if providers else None,
    )


def _path(route: ResolvedRoute) -> str | None:
    path = route.match.where
    if path.template is not None:
        return path.template if "{" not in path.template and "*" not in path.template else None
    return path.exact or path.prefix


def again(last: Plan, first_port: int | None, ports: Ports) -> Plan:
    """The last run's plan with its ports where they are still free."""
    demo = {name: port for name, port in last.demo.items() if is_free(port, shared=True)}
    return replace(
        last,
        listeners=listener_ports(last.listeners, last.schemes, first_port, ports),
        demo=demo,
        busy={name: port for name, port in last.demo.items() if name not in demo},
    )
