"""JSON Web Tokens of every kind a caller may try: good ones, and forged ones."""

import base64
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

Signer = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def signing_keys() -> dict[str, Signer]:
    """A fresh private key per asymmetric algorithm that the language supports."""
    return {
        "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }


def key_set(keys: dict[str, Signer]) -> str:
    """The public halves as a JSON Web Key Set (RFC 7517)."""
    algorithms = jwt.algorithms.get_default_algorithms()
    jwks = [
        {**algorithms[name].to_jwk(key.public_key(), as_dict=True), "kid": name, "alg": name, "use": "sig"}  # type: ignore[attr-defined]
        for name, key in keys.items()
    ]
    return json.dumps({"keys": jwks})


def claims(issuer: str, **more: Any) -> dict[str, Any]:
    now = int(time.time())
    everything = {"iss": issuer, "aud": "lab", "sub": "u1", "iat": now, "exp": now + 600} | more
    return {name: value for name, value in everything.items() if value is not None}


def sign(key: Any, algorithm: str, payload: dict[str, Any], kid: str | None = None) -> str:
    headers = {"kid": kid} if kid else None
    return jwt.encode(payload, key, algorithm=algorithm, headers=headers)


def confused(keys: str, payload: dict[str, Any], kid: str) -> str:
    """HS256 with a public key set for a secret: what a verifier accepts that lets the token choose the algorithm."""
    head, body = (encoded(part) for part in ({"alg": "HS256", "typ": "JWT", "kid": kid}, payload))
    signature = hmac.digest(keys.encode(), f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def unsigned(payload: dict[str, Any], algorithm: str = "none") -> str:
    """A token with an empty signature (RFC 7519 section 6, CVE-2015-9235)."""
    return f"{encoded({'alg': algorithm, 'typ': 'JWT'})}.{encoded(payload)}."


def broken_signature(token: str) -> str:
    head, body, signature = token.split(".")
    flipped = ("B" if signature[10] == "A" else "A") + signature[11:]
    return f"{head}.{body}.{signature[:10]}{flipped}"
