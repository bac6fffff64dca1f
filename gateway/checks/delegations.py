"""Delegations: each owner's modules inside what is delegated to it, and nobody else's in there.

Of the delegations that hold a route, the narrowest decides: one team may have a part of what another one has.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.checks.routes import inside, literal, written
from gateway.checks.scope import Scope
from gateway.document import DEFAULT_OWNER
from gateway.model import Delegation
from gateway.problems import Path, Problem
from gateway.resolve import ResolvedRoute

Named = tuple[str, Delegation]


@dataclass(frozen=True)
class Claim:
    """One host of a route: what a delegation holds or does not."""

    listener: str
    host: str
    kind: str
    text: str
    priority: int


def problems(scope: Scope) -> Iterator[Problem]:
    delegations = tuple(scope.gateway.delegations.items())
    if not delegations:
        return
    yield from _of_their_own(scope)
    yield from _twice(delegations)
    bound = {delegation.owner for _, delegation in delegations}
    for route in scope.routes:
        owner = scope.names.owners.get(("modules", route.module), scope.gateway.owner)
        for index, host in enumerate(route.hosts):
            found = _problem(delegations, route, index, host, owner, confined=owner in bound)
            if found is not None:
                yield found
                break


def _of_their_own(scope: Scope) -> Iterator[Problem]:
    """Who could delegate to itself could take whatever it likes."""
    for name, delegation in scope.gateway.delegations.items():
        owner = scope.names.owners.get(("delegations", name), DEFAULT_OWNER)
        for listener in delegation.listeners:
            yield from scope.dangling("listeners", listener, ("delegations", name, "listeners"))
        if delegation.owner == owner:
            message = f"'{owner}' delegates to itself"
            help_ = "a delegation is written in the file of another owner, who has the listener"
            yield Problem("GW413", ("delegations", name, "owner"), message, help_)


def _twice(delegations: tuple[Named, ...]) -> Iterator[Problem]:
    seen: dict[tuple[str, str], list[Named]] = {}
    for name, delegation in delegations:
        for index, host in enumerate(delegation.hosts):
            same = seen.setdefault((host, delegation.path_prefix.rstrip("/")), [])
            for before, other in same:
                if other.owner != delegation.owner and _share_a_listener(other, delegation):
                    message = f"the delegation '{before}' gives the same to {other.owner}"
                    yield Problem("GW414", ("delegations", name, "hosts", index), message, "delegate it once")
            same.append((name, delegation))


def _share_a_listener(one: Delegation, other: Delegation) -> bool:
    return not one.listeners or not other.listeners or not set(one.listeners).isdisjoint(other.listeners)


def _problem(
    delegations: tuple[Named, ...], route: ResolvedRoute, index: int, host: str, owner: str, *, confined: bool
) -> Problem | None:
    kind, text = written(route.match.where)
    claim = Claim(route.listener, host, kind, text, route.route.priority or 0)
    holding = [named for named in delegations if holds(named[1], claim)]
    if holding:
        name, narrowest = max(holding, key=lambda named: _narrowness(named[1], host))
        return None if narrowest.owner == owner else _intruder(route, claim, name, narrowest, owner)
    if confined:
        return _outside(delegations, route, index, claim, owner)
    for name, delegation in delegations:
        if takes_from(delegation, claim):
            return _intruder(route, claim, name, delegation, owner)
    return None


def _intruder(route: ResolvedRoute, claim: Claim, name: str, delegation: Delegation, owner: str) -> Problem:
    message = f"{claim.host}{delegation.path_prefix} is delegated to {delegation.owner} ('{name}'), not to {owner}"
    help_ = f"leave it to {delegation.owner}, or delegate a part of it to {owner}"
    return Problem("GW411", _place(route), message, help_)


def _outside(delegations: tuple[Named, ...], route: ResolvedRoute, index: int, claim: Claim, owner: str) -> Problem:
    own = [delegation for _, delegation in delegations if delegation.owner == owner]
    here = [one for one in own if _listens(one, claim) and any(covers(host, claim.host) for host in one.hosts)]
    if not here:
        place: Path = ("modules", route.module, "hosts", index) if claim.host != "*" else ("modules", route.module)
        hosts = ", ".join(dict.fromkeys(host for one in own for host in one.hosts))
        message = f"the host '{claim.host}' on the listener '{claim.listener}' is not delegated to {owner}"
        return Problem("GW410", place, message, f"to {owner} are delegated: {hosts}")
    paths = ", ".join(dict.fromkeys(one.path_prefix for one in here))
    message = f"the path '{claim.text}' on '{claim.host}' is outside what is delegated to {owner}"
    return Problem("GW410", _place(route), message, f"to {owner} are delegated: {paths}")


def _place(route: ResolvedRoute) -> Path:
    if route.match.path is None:
        return (*route.path, "match", "grpc")
    return (*route.path, "match", "path", written(route.match.path)[0])


def holds(delegation: Delegation, claim: Claim) -> bool:
    """Whether all that the route could take is inside."""
    return (
        _listens(delegation, claim)
        and any(covers(host, claim.host) for host in delegation.hosts)
        and (delegation.path_prefix == "/" or inside(delegation.path_prefix, claim.kind, claim.text))
    )


def takes_from(delegation: Delegation, claim: Claim) -> bool:
    """Whether a route that is not inside takes requests that are.

    It does by a host that is narrower than the delegation's, since Envoy chooses by host before path; and by a priority
    above the others' where its path could be inside. A wider path of no priority takes only what nobody else does.
    """
    if not _listens(delegation, claim):
        return False
    if any(host != claim.host and covers(host, claim.host) for host in delegation.hosts):
        return True
    touching = any(claim.host == host for host in delegation.hosts)
    return touching and claim.priority > 0 and _could_be_inside(delegation.path_prefix, claim)


def _could_be_inside(fence: str, claim: Claim) -> bool:
    if claim.kind == "exact":
        return inside(fence, "exact", claim.text)
    sure, wanted = literal(claim.kind, claim.text).rstrip("/"), fence.rstrip("/")
    return sure.startswith(wanted) or wanted.startswith(sure)


def _listens(delegation: Delegation, claim: Claim) -> bool:
    return not delegation.listeners or claim.listener in delegation.listeners


def covers(outer: str, inner: str) -> bool:
    """Whether every host of `inner` is one of `outer`: `*.a.com` covers `x.a.com` and `*.x.a.com`, not `a.com`."""
    if outer in ("*", inner):
        return True
    return outer.startswith("*.") and inner.removeprefix("*.").endswith(outer[1:])


def _narrowness(delegation: Delegation, host: str) -> tuple[int, int]:
    longest = max(len(one) for one in delegation.hosts if covers(one, host))
    return longest, len(delegation.path_prefix.rstrip("/"))
