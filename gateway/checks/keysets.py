"""Inline JSON Web Key Sets (RFC 7517): public keys only, of the kinds that Envoy verifies."""

import json
from collections.abc import Iterator
from typing import Any, Final

import jwt

from gateway.checks.scope import Scope
from gateway.jwks import uri_fault
from gateway.model import Jwks
from gateway.problems import Path, Problem

_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_CURVES: Final = {"EC": ("P-256", "P-384", "P-521"), "OKP": ("Ed25519",)}
_ALGORITHMS: Final = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
_SMALLEST_RSA: Final = 2048


def problems(scope: Scope) -> Iterator[Problem]:
    for name, provider in scope.gateway.jwt_providers.items():
        if provider.jwks.uri is not None:
            yield from _remote(provider.jwks, ("jwt_providers", name, "jwks"))
        if provider.jwks.inline is not None:
            yield from _key_set(provider.jwks.inline, ("jwt_providers", name, "jwks", "inline"))


def _remote(jwks: Jwks, path: Path) -> Iterator[Problem]:
    fault = uri_fault(jwks.uri or "")
    if fault:
        help_ = "write https://…; plain http only reaches this very machine"
        yield Problem("GW316", (*path, "uri"), f"key sets are not fetched from there: {fault}", help_)
    for field, value, least, most in (("cache", jwks.cache, 5_000, 86_400_000), ("timeout", jwks.timeout, 100, 30_000)):
        if not least <= value <= most:
            message = f"{field} must be between {least} and {most} ms"
            yield Problem("GW317", (*path, field), message, "10m and 2s are what it is without it")


def _key_set(text: str, path: Path) -> Iterator[Problem]:
    """Values of keys never get into a message: what was pasted may be a private key."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        yield Problem("GW311", path, "the key set is not JSON", 'write {"keys": [...]} (RFC 7517)')
        return
    keys = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(keys, list) or not keys:
        yield Problem("GW311", path, "the key set has no keys", 'write {"keys": [...]} (RFC 7517)')
        return
    for index, key in enumerate(keys):
        yield from _key(key, index, path)


def _key(key: Any, index: int, path: Path) -> Iterator[Problem]:
    if not isinstance(key, dict):
        yield Problem("GW311", path, f"key {index} of the set is not a mapping")
    elif is_secret(key):
        message = f"key {index} of the set is secret: anyone who reads the document could sign tokens with it"
        yield Problem("GW312", path, message, "write the public key; a shared key goes into the secret store: `hs256`")
    else:
        fault = fault_of_key(key)
        if fault:
            yield Problem("GW313", path, f"key {index} of the set {fault}")


def is_secret(key: dict[str, Any]) -> bool:
    """Whether a key of a set is a shared or a private one."""
    return key.get("kty") == "oct" or bool(_PRIVATE & key.keys())


def fault_of_key(key: dict[str, Any]) -> str | None:
    """Why Envoy cannot verify with a public key; None if it can."""
    return _unsupported(key) or _unreadable(key)


def _unsupported(key: dict[str, Any]) -> str | None:
    kind = key.get("kty")
    if not isinstance(kind, str) or kind not in _ALGORITHMS:
        return "has no kty of RSA, EC or OKP"
    if kind in _CURVES and key.get("crv") not in _CURVES[kind]:
        return f"has no crv of {', '.join(_CURVES[kind])}"
    if key.get("alg", _ALGORITHMS[kind][0]) not in _ALGORITHMS[kind]:
        return f"has an alg that does not go with kty {kind}: {', '.join(_ALGORITHMS[kind])}"
    return None


def _unreadable(key: dict[str, Any]) -> str | None:
    try:
        public = jwt.PyJWK(key).key
    except Exception:  # PyJWT lets binascii's, struct's and cryptography's errors through
        return "cannot be read"
    size = getattr(public, "key_size", _SMALLEST_RSA)
    small = key["kty"] == "RSA" and size < _SMALLEST_RSA
    return f"is too short: {size} bits of RSA, write at least {_SMALLEST_RSA}" if small else None
