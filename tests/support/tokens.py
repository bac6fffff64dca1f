"""JSON Web Tokens of every kind a caller may try: good ones, and forged ones."""

import base64
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
    return {"iss": issuer, "aud": "lab", "sub": "u1", "iat": now, "exp": now + 600} | more


def sign(key: Any, algorithm: str, payload: dict[str, Any], kid: str | None = None) -> str:
    headers = {"kid": kid} if kid else None
    return jwt.encode(payload, key, algorithm=algorithm, headers=headers)


def unsigned(payload: dict[str, Any], algorithm: str = "none") -> str:
    """A token with an empty signature (RFC 7519 section 6, CVE-2015-9235)."""
    parts = ({"alg": algorithm, "typ": "JWT"}, payload)
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts) + "."


def broken_signature(token: str) -> str:
    head, body, signature = token.split(".")
    flipped = ("B" if signature[10] == "A" else "A") + signature[11:]
    return f"{head}.{body}.{signature[:10]}{flipped}"
