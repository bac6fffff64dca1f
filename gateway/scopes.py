"""Scopes: a listener's routes in many small tables, found by host, by the path's first segment, or by both.

A request has one scope, and no other table is looked at for it. So a route belongs to a scoped listener only where it
is proven which scopes its requests have.
"""

from typing import Final, Literal, NamedTuple

from gateway.literals import literal_of
from gateway.resolve import ResolvedRoute

Scoping = Literal["none", "host", "path", "host_path"]


class Scope(NamedTuple):
    """What requests of one table have in common; None for what does not count. `segment` is `""` of the path `/`."""

    host: str | None = None
    segment: str | None = None


UNSCOPED: Final = Scope()


def by_host(scoping: Scoping) -> bool:
    return scoping in ("host", "host_path")


def by_path(scoping: Scoping) -> bool:
    return scoping in ("path", "host_path")


def scopes_of(route: ResolvedRoute, scoping: Scoping) -> tuple[Scope, ...]:
    """The scopes that the route's requests have; none where that cannot be told."""
    if scoping == "none":
        return (UNSCOPED,)
    segment = literal_of(route.match).first_segment if by_path(scoping) else None
    if by_path(scoping) and segment is None:
        return ()
    if scoping == "path":
        return (Scope(None, segment),)
    if any("*" in host for host in route.hosts):
        return ()
    return tuple(Scope(host, segment) for host in dict.fromkeys(route.hosts))
