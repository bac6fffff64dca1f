"""Secrets that stand in for the real ones when a document is checked without the store: right in kind, of no worth."""

import secrets
from collections.abc import Iterable

from gateway.secrets import SecretName
from xds_server.compiler.settings import CaBundle, Certificate, HmacKey, KeySet, RevocationList, Secret
from xds_server.throwaway import nothing_revoked, public_key_set, self_signed


def stand_ins(names: Iterable[SecretName]) -> dict[str, Secret]:
    """One for each name."""
    return {secret.name: _stand_in(secret) for secret in names}


def _stand_in(secret: SecretName) -> Secret:
    if secret.kind in ("hs256", "users", "client_secret"):
        return HmacKey(secrets.token_bytes(32))
    if secret.kind == "jwks":
        return KeySet(public_key_set())
    chain, key = self_signed(secret.name)
    if secret.kind == "crl":
        return RevocationList(nothing_revoked(chain, key))
    return Certificate(chain, key) if secret.kind == "certificate" else CaBundle(chain)
