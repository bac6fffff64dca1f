"""Weakenings of what routes share: listeners, callers, tiers, the floor, connections to upstreams."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from gateway.model import ClientCertificates, Floor, Gateway, JwtProvider, Listener, ListenerTls, Tier
from gateway.model.listeners import ClientValidation
from gateway.plan.weakened import looser, raised
from gateway.plan.weakening import Weakening
from gateway.problems import Path

Said = Iterator[tuple[Path, str]]

_MODES: Final = ("none", "optional", "require")


def of_objects(before: Gateway, after: Gateway) -> Iterator[Weakening]:
    """Of everything that both gateways have; what is new or gone weakens nothing by itself."""
    for kind, look in LOOKS.items():
        old, new = getattr(before, kind), getattr(after, kind)
        for name in new:
            if name in old and old[name] != new[name]:
                rule = kind.removesuffix("s")
                yield from (Weakening(rule, (kind, name, *at), said) for at, said in look(old[name], new[name]))
    if before.floor != after.floor:
        yield from (Weakening("floor", ("floor", *at), said) for at, said in _floor(before.floor, after.floor))
    if before.rate_limit_defaults.on_error == "deny" and after.rate_limit_defaults.on_error == "allow":
        said = "requests are let through while limits cannot be counted"
        yield Weakening("on_error", ("rate_limit_defaults", "on_error"), said)


def _listener(old: Listener, new: Listener) -> Said:
    if old.protocol == "HTTPS" and new.protocol == "HTTP":
        yield ("protocol",), "connections are no longer encrypted"
    elif old.tls is not None and new.tls is not None:
        yield from ((("tls", *at), said) for at, said in _tls(old.tls, new.tls))
    if old.strict_paths and not new.strict_paths:
        yield ("strict_paths",), "ambiguous paths are let through"
    if old.escaped_slashes == "reject" and new.escaped_slashes == "redirect":
        yield ("escaped_slashes",), "paths with escaped slashes are redirected instead of refused"
    if old.redirect is not None and new.redirect is None:
        yield ("redirect",), "requests are answered here and no longer sent to HTTPS"
    if old.hsts is not None and (new.hsts is None or new.hsts.max_age < old.hsts.max_age):
        yield ("hsts",), "browsers are bound to HTTPS for a shorter time, or not at all"
    if new.trusted_hops > old.trusted_hops:
        yield (
            ("trusted_hops",),
            f"{new.trusted_hops} hops of X-Forwarded-For are believed instead of {old.trusted_hops}",
        )


def _tls(old: ListenerTls, new: ListenerTls) -> Said:
    if new.min_version < old.min_version:
        yield ("min_version",), f"TLS {new.min_version} is accepted"
    if old.client_validation is not None:
        yield from ((("client_validation",), said) for said in _clients(old.client_validation, new.client_validation))


def _clients(old: ClientValidation, new: ClientValidation | None) -> Iterator[str]:
    mode = new.mode if new is not None else "none"
    if _MODES.index(mode) < _MODES.index(old.mode):
        yield f"client certificates: {mode} instead of {old.mode}"
    elif new is not None and mode != "none":
        if old.crl_secret is not None and new.crl_secret is None:
            yield "revoked client certificates are accepted"
        if old.subject_alt_names and not set(map(repr, new.subject_alt_names)) <= set(map(repr, old.subject_alt_names)):
            yield "client certificates of more names are accepted"
        if new.ca_secret != old.ca_secret:
            yield f"client certificates of {new.ca_secret} are accepted"


def _provider(old: JwtProvider, new: JwtProvider) -> Said:
    more = [audience for audience in new.audiences if audience not in old.audiences]
    if more:
        yield ("audiences",), f"tokens for {', '.join(more)} are accepted"
    if new.issuer != old.issuer:
        yield ("issuer",), f"tokens of {new.issuer} are accepted"
    if new.jwks != old.jwks:
        yield ("jwks",), "tokens signed by other keys are accepted"
    if new.max_lifetime > old.max_lifetime:
        yield ("max_lifetime",), "tokens may be valid for longer"
    if new.clock_skew > old.clock_skew:
        yield ("clock_skew",), "tokens are accepted for longer after they ran out"


def _certificates(old: ClientCertificates, new: ClientCertificates) -> Said:
    if not set(map(repr, new.subject_alt_names)) <= set(map(repr, old.subject_alt_names)):
        yield ("subject_alt_names",), "certificates of more names are accepted"
    if more := [scope for scope in new.scopes if scope not in old.scopes]:
        yield ("scopes",), f"its callers have the scope {' and '.join(more)}"


def _tier(old: Tier, new: Tier) -> Said:
    if new.unlimited and not old.unlimited:
        yield ("unlimited",), "its callers have no limit"
    else:
        yield from ((("rate_limits",), said) for said in raised(old.rate_limits, new.rate_limits))


def _upstream(old: Any, new: Any) -> Said:
    before, after = getattr(old, "tls", None), getattr(new, "tls", None)
    if before is not None and after is None:
        yield ("tls",), "requests go there unencrypted, and nobody looks whose answer it is"
    elif before is not None and after is not None:
        if after.min_version < before.min_version:
            yield ("tls", "min_version"), f"TLS {after.min_version} is accepted"
        if not set(after.names) <= set(before.names):
            yield ("tls",), "certificates of more names are accepted"
        if (after.ca, after.ca_secret) != (before.ca, before.ca_secret):
            yield ("tls",), f"certificates of {after.ca_secret or 'any authority of the system'} are accepted"


def _floor(old: Floor, new: Floor) -> Said:
    """What it asks of routes that are still to come; what it did for those that are there is seen at them."""
    if old.authentication == "required" and new.authentication is None:
        yield ("authentication",), "routes may be open to anybody"
    elif more := [module for module in new.open_modules if module not in old.open_modules]:
        yield ("open_modules",), f"routes of {', '.join(more)} may be open to anybody"
    if old.authorization is not None and new.authorization is None:
        yield ("authorization",), "no rules hold for every route"
    elif old.authorization is not None and new.authorization is not None:
        yield from ((("authorization",), said) for said in looser(old.authorization, new.authorization))
    yield from ((("rate_limits",), said) for said in raised(old.rate_limits, new.rate_limits))
    if old.timeouts.request and (not new.timeouts.request or new.timeouts.request > old.timeouts.request):
        yield ("timeouts", "request"), "requests may take longer"
    if new.tls.min_version < old.tls.min_version:
        yield ("tls", "min_version"), f"listeners may accept TLS {new.tls.min_version}"


LOOKS: Final[Mapping[str, Callable[[Any, Any], Said]]] = {
    "listeners": _listener,
    "upstreams": _upstream,
    "jwt_providers": _provider,
    "client_certificates": _certificates,
    "tiers": _tier,
}
"""The kinds that are compared, and how."""
