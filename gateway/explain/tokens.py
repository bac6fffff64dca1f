"""Which tokens hold, as Envoy checks them: issuer, times, audience, signature, in this order."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.explain.asked import Token
from gateway.explain.caller import normalised, value_at
from gateway.explain.carrying import completed, seen_by
from gateway.explain.explanation import Answer, Step
from gateway.explain.walk import Walk
from gateway.explain.ways import Ways
from gateway.model import JwtProvider

REFUSED_TOKEN: Final = "jwt_authn_access_denied"  # noqa: S105 - Envoy's words


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
