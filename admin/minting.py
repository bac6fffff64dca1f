"""JSON Web Tokens for providers whose key we hold: those that verify with a shared HS256 secret."""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import jwt
from sqlalchemy.ext.asyncio import AsyncEngine

from admin.keys import suggestion, unknown_tier
from admin.problems import ApiError, refused
from db import audit
from db import engine as engines
from gateway.model import Gateway, JwtProvider
from xds_server.rollout.publisher import Publisher
from xds_server.secrets import SecretStore

DEFAULT_LIFETIME_MS: Final = 3_600_000
SHORTEST_SECRET: Final = 32  # bytes; RFC 7518 section 3.2
RESERVED: Final = frozenset({"iss", "aud", "sub", "iat", "exp", "nbf", "jti"})


@dataclass(frozen=True)
class NewToken:
    """`lifetime_ms` is cut to what the provider accepts. `claims`: any others that the caller wants in it."""

    provider: str
    subject: str
    tier: str | None = None
    scopes: Sequence[str] = ()
    claims: Mapping[str, Any] = field(default_factory=dict)
    lifetime_ms: int = DEFAULT_LIFETIME_MS


class Minter:
    def __init__(self, engine: AsyncEngine, publisher: Publisher, store: SecretStore) -> None:
        self._engine = engine
        self._publisher = publisher
        self._store = store

    async def mint(self, actor: str, wanted: NewToken) -> tuple[str, datetime]:
        """The token and when it expires. Raises ApiError 422, or 409 while no gateway is published."""
        published = self._publisher.state.published
        if published is None:
            raise ApiError(409, "nothing_published", "no gateway is published: apply one first")
        provider = _provider(published.gateway, wanted)
        key = self._key(provider, wanted.provider)
        now = int(time.time())
        claims = _claims(published.gateway, provider, wanted, now)
        await self._record(actor, wanted, claims)
        return jwt.encode(claims, key, algorithm="HS256"), datetime.fromtimestamp(claims["exp"], UTC)

    def _key(self, provider: JwtProvider, name: str) -> bytes:
        if provider.jwks.hs256 is None:
            raise refused(
                "/provider", f"{name} verifies with public keys", "sign with its private key, which is not here"
            )
        secret = provider.jwks.hs256.secret
        key = self._store.hmac_key(secret)
        if key is None:
            raise refused("/provider", f"the secret {secret!r} of {name} is not in the secret store")
        if len(key) < SHORTEST_SECRET:
            raise refused("/provider", f"the secret {secret!r} is shorter than HS256 allows ({SHORTEST_SECRET} bytes)")
        return key

    async def _record(self, actor: str, wanted: NewToken, claims: Mapping[str, Any]) -> None:
        detail = {"jti": claims["jti"], "exp": claims["exp"], "tier": wanted.tier, "scopes": list(wanted.scopes)}
        name = f"{wanted.provider}/{wanted.subject}"
        await engines.run(
            self._engine,
            lambda connection: audit.append(connection, actor=actor, action="token.mint", object=name, detail=detail),
        )


def _provider(gateway: Gateway, wanted: NewToken) -> JwtProvider:
    provider = gateway.jwt_providers.get(wanted.provider)
    if provider is None:
        hint = suggestion(wanted.provider, gateway.jwt_providers)
        raise refused("/provider", f"there is no JWT provider {wanted.provider!r}", hint)
    if wanted.tier is not None and wanted.tier not in gateway.tiers:
        raise unknown_tier("/tier", wanted.tier, gateway.tiers)
    if wanted.tier is not None and provider.tier_claim is None:
        raise refused("/tier", f"{wanted.provider} has no tier_claim, so its tokens carry no tier")
    return provider


def _claims(gateway: Gateway, provider: JwtProvider, wanted: NewToken, now: int) -> dict[str, Any]:
    ours = RESERVED | {provider.scope_claim} | ({provider.tier_claim} if provider.tier_claim else set())
    for name in wanted.claims:
        if name in ours:
            raise refused(f"/claims/{name}", f"the claim {name!r} is set by other members of the request")
    lifetime = max(1, min(wanted.lifetime_ms, provider.max_lifetime) // 1000)
    claims: dict[str, Any] = {
        **wanted.claims,
        "iss": provider.issuer,
        "aud": provider.audiences[0] if len(provider.audiences) == 1 else list(provider.audiences),
        "sub": wanted.subject,
        "iat": now,
        "exp": now + lifetime,
        "jti": secrets.token_hex(16),
    }
    if provider.tier_claim and wanted.tier:
        claims[provider.tier_claim] = wanted.tier
    if wanted.scopes:
        claims[provider.scope_claim] = " ".join(wanted.scopes)
    return claims
