"""Ways to authenticate by themselves: names that tell them apart, certificates where a listener verifies them."""

from collections.abc import Iterator

from gateway.checks.patterns import regex_problems
from gateway.checks.scope import NOUNS, Scope
from gateway.model import ClientCertificates
from gateway.naming import WAYS
from gateway.problems import Path, Problem
from gateway.resolve import ResolvedRoute


def problems(scope: Scope) -> Iterator[Problem]:
    yield from _of_one_name(scope)
    for name, kind in scope.gateway.client_certificates.items():
        yield from _certificates(scope, kind, ("client_certificates", name))
    for route in scope.routes:
        yield from _unverified(scope, route)


def _of_one_name(scope: Scope) -> Iterator[Problem]:
    """`authentication` names them without their kind."""
    first: dict[str, str] = {}
    for kind in WAYS:
        for name in scope.names[kind]:
            other = first.setdefault(name, kind)
            if other != kind:
                message = f"a {NOUNS[other]} is called '{name}' too, and `authentication` could not tell them apart"
                yield Problem("GW318", (kind, name), message, "give one of them another name")


def _certificates(scope: Scope, kind: ClientCertificates, path: Path) -> Iterator[Problem]:
    if kind.tier is not None:
        yield from scope.dangling("tiers", kind.tier, (*path, "tier"))
    for index, name in enumerate(kind.subject_alt_names):
        for word in ("uri", "dns", "email"):
            match = getattr(name, word)
            if match is not None and match.regex is not None:
                yield from regex_problems(match.regex, (*path, "subject_alt_names", index, word, "regex"))


def _unverified(scope: Scope, route: ResolvedRoute) -> Iterator[Problem]:
    kinds = route.authenticated_by(scope.gateway.client_certificates)
    listener = scope.gateway.listeners.get(route.listener)
    if not kinds or listener is None:
        return
    validation = listener.tls.client_validation if listener.tls else None
    if validation is None or validation.mode == "none":
        own = route.route.authentication is not None
        path = (*route.path, "authentication") if own else ("modules", route.module, "authentication")
        message = f"{route.full_name} wants '{kinds[0]}', and its listener '{route.listener}' verifies no certificates"
        yield Problem("GW353", path, message, "write `tls.client_validation` at the listener")
