"""Who is calling: what each way to authenticate says of the request, and whom that makes of the caller.

Written from the document's meaning (docs/language/authentication.md), not from what the compiler makes of it, so that
the two can be held against each other.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import re2

from gateway.explain.addresses import within
from gateway.explain.asked import Token
from gateway.explain.caller import OPEN, Caller, normalised, scopes_in, tier_of, value_at
from gateway.explain.carrying import completed, key_seen_by, seen_by
from gateway.explain.explanation import Answer, Step
from gateway.explain.walk import Walk
from gateway.model import AllOf, AnyOf, Gateway, JwtProvider, SubjectAltName
from gateway.resolve import ResolvedRoute

REFUSED_TOKEN: Final = "jwt_authn_access_denied"  # noqa: S105 - Envoy's words
REFUSED: Final = "ext_authz_denied"
DENIED: Final = "rbac_access_denied"
KEY_FAULTS: Final = {
    "malformed": "the text is no API key",
    "unknown": "there is no such key",
    "wrong": "the secret part is wrong",
    "revoked": "the key is revoked",
    "disabled": "the key is disabled",
    "expired": "the key has expired",
}


class Ways:
    """What a route accepts, by kind, in the document's order."""

    def __init__(self, gateway: Gateway, route: ResolvedRoute) -> None:
        who = route.authentication
        self.gateway = gateway
        self.logins = route.authenticated_by(gateway.oidc)
        self.bearers = route.authenticated_by(gateway.jwt_providers)
        self.providers = tuple(
            dict.fromkeys([*self.bearers, *(gateway.oidc[name].jwt_provider for name in self.logins)])
        )
        self.keys = route.authenticated_by(gateway.api_keys)
        self.basic = route.authenticated_by(gateway.basic_auth)
        self.certificates = route.authenticated_by(gateway.client_certificates)
        self.all_of = who.all_of if isinstance(who, AllOf) else ()
        self.optional = isinstance(who, AnyOf) and who.optional

    @property
    def tokens_only(self) -> bool:
        return not (self.keys or self.basic or self.certificates)

    @property
    def without_token(self) -> bool:
        """A caller may show something else. A token that is there must be good all the same."""
        return self.optional or (not self.all_of and not self.tokens_only)

    @property
    def asks_nobody(self) -> bool:
        """Envoy decides by itself: a single provider is all that the route accepts and all that the gateway has."""
        one = len(self.providers) == 1 and not self.gateway.qualify_clients
        return one and self.tokens_only and not self.all_of and not self.optional


def authentication(walk: Walk) -> Iterator[Step]:
    route = walk.route
    if route is None:
        return
    where = walk.written(route, "authentication")
    if route.authentication == "none":
        walk.caller = OPEN
        yield Step("authn", "nobody is asked who calls", where, "ok")
        return
    ways = Ways(walk.gateway, route)
    verified: dict[str, Mapping[str, Any]] = {}
    yield from login(walk, ways)
    yield from tokens(walk, ways, verified)
    yield from identity(walk, ways, verified)


# -------------------------------------------------------------------------------------------------------------- tokens
def login(walk: Walk, ways: Ways) -> Iterator[Step]:
    """A browser without a session goes to its issuer; what no browser shows as a page gets 401 instead."""
    asked = walk.asked
    other = asked.token or (ways.keys and asked.key) or (ways.basic and asked.password)
    if not ways.logins or asked.session or other:
        return
    name = ways.logins[0]
    spec = walk.gateway.oidc[name]
    place = ("oidc", name)
    if asked.request.method != "GET":
        yield Step("authn", f"login {name}: no session, and not a page (GET)", place, "no", Answer(401, "oauth"))
        return
    walk.location = f"{spec.authorization_endpoint}?{urlencode({'client_id': spec.client_id}, quote_via=quote)}&…"
    text = f"login {name}: no session: the browser is sent to {spec.authorization_endpoint}"
    yield Step("authn", text, place, "no", Answer(302, "oauth"))


def tokens(walk: Walk, ways: Ways, verified: dict[str, Mapping[str, Any]]) -> Iterator[Step]:
    """One step a provider, and whether Envoy goes on. Writes the claims of the tokens that hold into `verified`."""
    if not ways.providers:
        return
    faults: list[str] = []
    shown = walk.asked.token
    seers = seen_by(shown, ways.providers, walk.gateway.jwt_providers) if shown is not None else ()
    for name in ways.providers:
        token = shown if name in seers else None
        provider = walk.gateway.jwt_providers[name]
        claims = completed(token, provider, walk.asked.now) if token else {}
        fault = fault_of(claims, provider, walk.asked.now, token.signature) if token else None
        if token and not fault:
            verified[name] = normalised(provider, claims)
            prove(walk, name, token)
        elif token and fault:
            faults.append(fault)
        yield Step("authn", f"jwt {name}: {said(claims, provider, fault)}", ("jwt_providers", name), mark(token, fault))
    if passes(ways, verified, nothing_shown=not seers):
        return
    why = "; ".join(dict.fromkeys(faults)) or "no token"
    place = walk.written(walk.route, "authentication") if walk.route else None
    yield Step("authn", f"a token is needed that holds: {why}", place, "no", Answer(401, REFUSED_TOKEN))


def passes(ways: Ways, verified: Mapping[str, Any], *, nothing_shown: bool) -> bool:
    if ways.all_of:
        return all(name in verified for name in ways.providers)
    return bool(verified) or (ways.without_token and nothing_shown)


def fault_of(claims: Mapping[str, Any], provider: JwtProvider, now: float, signature: str) -> str | None:
    """The first thing wrong with it, in Envoy's order. `now`: seconds."""
    skew = max(1, -(-provider.clock_skew // 1000))
    if not well_formed(claims):
        return "a registered claim has the wrong type (RFC 7519, 4.1)"
    if (issuer := claims.get("iss", "")) != provider.issuer:
        return f"issuer {issuer or '(none)'} is not {provider.issuer}"
    expires = claims.get("exp")
    if expires is None:
        return "it has no expiry (exp)"
    if expires - now > provider.max_lifetime / 1000 + provider.clock_skew / 1000:
        return f"it is good for longer than max_lifetime ({provider.max_lifetime // 1000}s) from now"
    if claims.get("nbf", 0) > now + skew:
        return f"it is not valid yet, for another {claims['nbf'] - now:.0f}s"
    if now > expires + skew:
        return f"it expired {now - expires:.0f}s ago"
    audiences = audiences_of(claims)
    if not audiences.intersection(provider.audiences):
        return f"audience {', '.join(sorted(audiences)) or '(none)'} is none of {', '.join(provider.audiences)}"
    return "the signature is wrong" if signature == "bad" else None


def well_formed(claims: Mapping[str, Any]) -> bool:
    audience = claims.get("aud", "")
    texts = [claims.get("iss", ""), claims.get("sub", ""), *(audience if isinstance(audience, list) else [audience])]
    times = [claims.get(name, 1) for name in ("exp", "nbf", "iat")]
    return all(isinstance(text, str) for text in texts) and all(
        isinstance(time, int | float) and not isinstance(time, bool) and time >= 0 for time in times
    )


def audiences_of(claims: Mapping[str, Any]) -> set[str]:
    found = claims.get("aud", [])
    return set(found) if isinstance(found, list) else {found}


def said(claims: Mapping[str, Any], provider: JwtProvider, fault: str | None) -> str:
    if fault:
        return fault
    if not claims:
        return "no token"
    words = [f"sub={claims.get('sub', '-')}"]
    if provider.tier_claim:
        words.append(f"{provider.tier_claim}={value_at(claims, provider.tier_claim) or '-'}")
    return "ok  " + " ".join(words)


def mark(token: Token | None, fault: object) -> Any:
    return "note" if token is None else "no" if fault else "ok"


def prove(walk: Walk, name: str, token: Token) -> None:
    if token.assumed:
        walk.unproven.append(f"the claims are taken as those of a verified token of {name}")
    elif token.signature == "unchecked":
        walk.unproven.append(f"the token's signature was not checked: the keys of {name} are not here")


# ------------------------------------------------------------------------------------------------------------ identity
def identity(walk: Walk, ways: Ways, verified: Mapping[str, Mapping[str, Any]]) -> Iterator[Step]:
    """Whom the credentials make of the caller. Of several ways that must all hold, the first one says who that is."""
    if ways.asks_nobody:
        name, claims = next(iter(verified.items()), (ways.providers[0], {}))
        if not claims.get("sub"):
            place, text = ("jwt_providers", name), f"jwt {name}: the token names no subject (sub)"
            yield Step("authn", text, place, "no", Answer(403, DENIED))
            return
        walk.caller = of_token(walk.gateway, name, claims, verified, by_envoy=True)
        return
    anyone = ways.providers + ways.keys + ways.basic + ways.certificates
    names: list[tuple[str, ...]] = [(name,) for name in ways.all_of] or [anyone]
    found: list[Caller] = []
    for accepted in names:
        caller, step = one_way(walk, ways, accepted, verified)
        if step is not None:
            yield step
        if caller is None:
            return
        found.append(caller)
    walk.caller = found[0]


def one_way(
    walk: Walk, ways: Ways, accepted: tuple[str, ...], verified: Mapping[str, Mapping[str, Any]]
) -> tuple[Caller | None, Step | None]:
    """A token wins over a key, a key over a password, that over a certificate, which is always there."""
    asked, gateway = walk.asked, walk.gateway
    keys, basic, certificates = (
        [name for name in accepted if name in of] for of in (ways.keys, ways.basic, ways.certificates)
    )
    held = next((name for name in accepted if name in verified), None)
    if held is not None:
        claims = verified[held]
        if not claims.get("sub"):
            return None, refused(("jwt_providers", held), f"jwt {held}: the token names no subject (sub)")
        return of_token(gateway, held, claims, verified), None
    keys = [name for name in keys if name in key_seen_by(ways.keys, gateway.api_keys)]
    if keys and asked.key is not None:
        return of_key(walk, keys[0], verified)
    if basic and asked.password is not None:
        return of_password(walk, basic[0], verified)
    if certificates and asked.certificate:
        return of_certificate(walk, certificates, verified)
    if ways.optional:
        caller = Caller("anonymous", f"ip|{asked.address}", tier_of(gateway, None), (), tuple(verified.values()))
        return caller, Step("authn", "no credentials, and none are needed: nobody in particular", None, "ok")
    place = walk.written(walk.route, "authentication") if walk.route else None
    return None, refused(place, f"no credentials; one of {', '.join(accepted)} is needed")


def of_token(
    gateway: Gateway,
    name: str,
    claims: Mapping[str, Any],
    verified: Mapping[str, Mapping[str, Any]],
    *,
    by_envoy: bool = False,
) -> Caller:
    """`by_envoy`: nobody else looks at the token, and Envoy knows lists of scopes only, or texts that it split."""
    provider = gateway.jwt_providers[name]
    subject = claims.get("sub", "")
    client = f"{name}|{subject}" if gateway.qualify_clients else str(subject)
    tier = tier_of(gateway, value_at(claims, provider.tier_claim) if provider.tier_claim else None)
    claimed = value_at(claims, provider.scope_claim)
    scopes = () if by_envoy and isinstance(claimed, str) else scopes_in(claimed)
    return Caller("jwt", client, tier, scopes, tuple(verified.values()))


def of_key(walk: Walk, name: str, verified: Mapping[str, Mapping[str, Any]]) -> tuple[Caller | None, Step]:
    key = walk.asked.key
    place = ("api_keys", name)
    if key is None or key.state in KEY_FAULTS:
        return None, refused(place, f"key {name}: {KEY_FAULTS[key.state] if key else 'none'}")
    if key.networks and not within(walk.asked.address, key.networks):
        return None, refused(place, f"key {name}: not to be used from {walk.asked.address}")
    if key.state == "unchecked":
        walk.unproven.append("the secret part of the API key was not compared with what is stored")
    tier = tier_of(walk.gateway, key.tier)
    caller = Caller("key", key.client, tier, key.scopes, tuple(verified.values()))
    return caller, Step("authn", f"key {name}: ok  client={key.client} tier={tier}", place, "ok")


def of_password(walk: Walk, name: str, verified: Mapping[str, Mapping[str, Any]]) -> tuple[Caller | None, Step]:
    password = walk.asked.password
    place = ("basic_auth", name)
    if password is None or not password.right:
        return None, refused(place, f"basic {name}: the name or password is not valid")
    walk.unproven.append("the password was not checked")
    caller = Caller("basic", f"{name}|{password.user}", tier_of(walk.gateway, None), (), tuple(verified.values()))
    return caller, Step("authn", f"basic {name}: ok  user={password.user}", place, "ok")


def of_certificate(
    walk: Walk, names: list[str], verified: Mapping[str, Mapping[str, Any]]
) -> tuple[Caller | None, Step]:
    for name in names:
        spec = walk.gateway.client_certificates[name]
        for wanted in spec.subject_alt_names:
            for kind, value in walk.asked.certificate:
                if names_fit(wanted, kind, value):
                    tier = tier_of(walk.gateway, spec.tier)
                    caller = Caller("certificate", f"{name}|{value}", tier, spec.scopes, tuple(verified.values()))
                    return caller, Step(
                        "authn", f"certificate {name}: ok  {value}", ("client_certificates", name), "ok"
                    )
    place = ("client_certificates", names[0])
    return None, refused(place, f"certificate {', '.join(names)}: none of its names is let in")


def names_fit(wanted: SubjectAltName, kind: str, value: str) -> bool:
    """Host names are compared without case (RFC 4343), everything else as it is."""
    match = getattr(wanted, kind, None)
    if match is None:
        return False
    if match.regex is not None:
        return re2.fullmatch(match.regex, value) is not None
    text = match.exact or match.prefix or match.suffix or ""
    if kind == "dns":
        text, value = text.lower(), value.lower()
    if match.exact is not None:
        return bool(value == text)
    return value.startswith(text) if match.prefix is not None else value.endswith(text)


def refused(path: Any, text: str) -> Step:
    return Step("authn", text, path, "no", Answer(401, REFUSED))
