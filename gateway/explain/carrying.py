"""Where a token or a key stands in a request, and which of those that a route accepts look there."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from gateway.explain.asked import Token
from gateway.model import ApiKeys, JwtProvider


class Place(NamedTuple):
    """`kind`: `header`, `query` or `cookie`. `prefix`: what comes before the token there."""

    kind: str
    name: str
    prefix: str = ""


LIFE: Final = 600  # seconds
BEARER: Final = Place("header", "authorization", "Bearer ")


def token_places(provider: JwtProvider) -> tuple[Place, ...]:
    headers = tuple(Place("header", one.name.lower(), one.prefix) for one in provider.from_.headers)
    return headers + tuple(Place("cookie", name) for name in provider.from_.cookies) or (BEARER,)


def meant_for(token: Token, accepted: Sequence[str], providers: Mapping[str, JwtProvider]) -> str | None:
    """For which provider the token is: the one that is named, else the accepted one of its issuer, else the first."""
    if token.provider is not None:
        return token.provider if token.provider in providers else None
    issuer = token.claims.get("iss")
    same = [name for name in accepted if providers[name].issuer == issuer]
    return next(iter(same or accepted), None)


def completed(token: Token, provider: JwtProvider, now: float) -> dict[str, Any]:
    """The claims of the token; claims alone are completed to those of a token that the provider would take."""
    if not token.assumed:
        return dict(token.claims)
    audience = provider.audiences[0] if len(provider.audiences) == 1 else list(provider.audiences)
    expires = int(now) + min(LIFE, provider.max_lifetime // 1000)
    return {"iss": provider.issuer, "aud": audience, "sub": "-", "exp": expires, **token.claims}


def seen_by(token: Token, accepted: Sequence[str], providers: Mapping[str, JwtProvider]) -> tuple[str, ...]:
    """The accepted providers who look where the token stands: in the first place of the one it is meant for."""
    meant = meant_for(token, accepted, providers)
    if meant is None:
        return ()
    place = token_places(providers[meant])[0]
    return tuple(name for name in accepted if place in token_places(providers[name]))


def key_places(source: ApiKeys) -> tuple[Place, ...]:
    where = (("header", source.from_.headers), ("query", source.from_.query), ("cookie", source.from_.cookies))
    return tuple(Place(kind, name) for kind, names in where for name in names)


def key_seen_by(accepted: Sequence[str], sources: Mapping[str, ApiKeys]) -> tuple[str, ...]:
    """The accepted sources that look where a key stands: in the first place of the first of them."""
    if not accepted:
        return ()
    place = key_places(sources[accepted[0]])[0]
    return tuple(name for name in accepted if place in key_places(sources[name]))
