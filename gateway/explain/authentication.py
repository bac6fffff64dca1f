"""Who is calling: what each way to authenticate says of the request, and whom that makes of the caller.

Written from the document's meaning (docs/language/authentication.md), not from what the compiler makes of it, so that
the two can be held against each other.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from gateway.alternative_names import fits
from gateway.explain.addresses import within
from gateway.explain.caller import OPEN, Caller, scopes_in, tier_of, value_at
from gateway.explain.carrying import key_seen_by
from gateway.explain.explanation import Answer, Step
from gateway.explain.tokens import tokens
from gateway.explain.walk import Walk
from gateway.explain.ways import Ways
from gateway.model import Gateway

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
                if fits(wanted, kind, value):
                    tier = tier_of(walk.gateway, spec.tier)
                    caller = Caller("certificate", f"{name}|{value}", tier, spec.scopes, tuple(verified.values()))
                    return caller, Step(
                        "authn", f"certificate {name}: ok  {value}", ("client_certificates", name), "ok"
                    )
    place = ("client_certificates", names[0])
    return None, refused(place, f"certificate {', '.join(names)}: none of its names is let in")


def refused(path: Any, text: str) -> Step:
    return Step("authn", text, path, "no", Answer(401, REFUSED))
