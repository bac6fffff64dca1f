"""Tokens and keys that say what a request's facts say, made for the occasion and of no worth anywhere else."""

import base64
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jwt

from gateway.explain import Asked, Key, Token
from gateway.explain.carrying import completed, key_places, meant_for, token_places
from gateway.match import Request
from gateway.model import Gateway, JwtProvider
from gateway.resolve import ResolvedRoute
from policy.authz import keys
from policy.authz.identity import KeyRecord

PEPPER_VERSION = 1


class Unprovable(ValueError):  # noqa: N818 - not an error of ours
    """This request cannot be sent here as it would be elsewhere."""


@dataclass(frozen=True, slots=True)
class Signer:
    """How a provider's tokens are signed: PyJWT's algorithm and key."""

    algorithm: str
    key: Any = field(repr=False)
    kid: str | None = None

    def sign(self, claims: Mapping[str, Any]) -> str:
        head = {"kid": self.kid} if self.kid else None
        return jwt.encode(dict(claims), self.key, algorithm=self.algorithm, headers=head)


@dataclass
class Purse:
    """Makes credentials. The decision service is to know the API keys in `records`, and the `users` of each secret."""

    gateway: Gateway
    signers: Mapping[str, Signer]
    pepper: bytes = field(repr=False)
    records: dict[str, KeyRecord] = field(default_factory=dict)
    users: dict[str, set[str]] = field(default_factory=dict)

    def carried(self, asked: Asked, route: ResolvedRoute | None) -> Request:
        """The request with its credentials where the route looks for them. Raises Unprovable."""
        if asked.certificate or asked.session:
            raise Unprovable("client certificates and sessions of a login cannot be made up here")
        if asked.token is not None and asked.password is not None:
            raise Unprovable("one Authorization has room for a token or a password")
        places = Places(self.gateway, route)
        headers = [*asked.request.headers, *self._of_token(asked, places), *self._of_password(asked, places)]
        target = asked.request.target
        if asked.key is not None:
            kind, name = places.of_keys()
            text = self._key(asked.key, asked.address)
            if kind == "query":
                target += ("&" if "?" in target else "?") + f"{name}={text}"
            else:
                headers.append((name, text) if kind == "header" else ("cookie", f"{name}={text}"))
        hops = self.gateway.listeners[asked.request.listener or ""].trusted_hops
        headers.append(("x-forwarded-for", ", ".join([asked.address, *["127.0.0.1"] * (hops - 1)])))
        return replace(asked.request, target=target, headers=tuple(headers))

    def _of_token(self, asked: Asked, places: "Places") -> Iterator[tuple[str, str]]:
        token = asked.token
        if token is None:
            return
        name = places.provider_of(token)
        if name is None:
            raise Unprovable("the gateway has no provider whose token this could be")
        provider = self.gateway.jwt_providers[name]
        text = self._token(token, name, provider, asked.now)
        place = token_places(provider)[0]
        yield (place.name, place.prefix + text) if place.kind == "header" else ("cookie", f"{place.name}={text}")

    def _token(self, token: Token, name: str, provider: JwtProvider, now: float) -> str:
        signed = self.signers[name].sign(completed(token, provider, now))
        if token.signature != "bad":
            return signed
        head, body, signature = signed.split(".")
        return f"{head}.{body}.{signature[:10]}{'B' if signature[10] == 'A' else 'A'}{signature[11:]}"

    def _key(self, key: Key, address: str) -> str:
        if key.state == "malformed":
            return "no-key-at-all"
        minted = keys.mint(self.pepper)
        record = KeyRecord(minted.id, key.client, key.tier or "", key.scopes, minted.digest, PEPPER_VERSION)
        match key.state:
            case "unknown":
                return minted.text
            case "wrong":
                record = replace(record, digest=bytes(32))
            case "revoked":
                record = replace(record, revoked=True)
            case "disabled":
                record = replace(record, disabled=True)
            case "expired":
                record = replace(record, expires_at=1.0)
        networks = tuple(ipaddress.ip_network(text, strict=False) for text in key.networks)
        self.records[minted.id] = replace(record, networks=networks)
        return minted.text

    def _of_password(self, asked: Asked, places: "Places") -> Iterator[tuple[str, str]]:
        if asked.password is None:
            return
        source = places.of_passwords()
        self.users.setdefault(source, set()).add(asked.password.user)
        password = PASSWORD if asked.password.right else "wrong"
        text = base64.b64encode(f"{asked.password.user}:{password}".encode()).decode()
        yield "authorization", f"Basic {text}"


PASSWORD = "made for the occasion"  # noqa: S105 - it is, and nobody else's


@dataclass(frozen=True, slots=True)
class Places:
    """Where a route looks for each kind of credential; where it looks for none, where any route of the gateway may."""

    gateway: Gateway
    route: ResolvedRoute | None

    def accepted(self, of: Mapping[str, Any]) -> list[str]:
        found = self.route.authenticated_by(of) if self.route is not None else ()
        return list(found) or list(of)

    def provider_of(self, token: Token) -> str | None:
        return meant_for(token, self.accepted(self.gateway.jwt_providers), self.gateway.jwt_providers)

    def of_keys(self) -> tuple[str, str]:
        """`header`, `query` or `cookie`, and its name. Raises Unprovable."""
        for name in self.accepted(self.gateway.api_keys):
            place = key_places(self.gateway.api_keys[name])[0]
            return place.kind, place.name
        raise Unprovable("the gateway has no place for an API key")

    def of_passwords(self) -> str:
        """The name of the secret with the users. Raises Unprovable."""
        for name in self.accepted(self.gateway.basic_auth):
            return self.gateway.basic_auth[name].users_secret
        raise Unprovable("the gateway takes no passwords")
