"""The decision about who is calling: pure, in two steps around the one thing that must be looked up.

`examine` decides everything that the request itself decides; when an API key must be looked up it says so, and
`conclude` decides with what was found.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from policy.authz import keys
from policy.authz.facts import Facts, Token
from policy.authz.identity import Identity, KeyRecord
from policy.authz.keys import ParsedKey
from policy.view import KeySource, PolicyView

REALM: Final = "tollhouse"


class Reason(StrEnum):
    """Why a request was denied: for metrics and access logs. Callers hear the detail, which tells less."""

    NOT_CONFIGURED = "not_configured"
    NO_CREDENTIALS = "no_credentials"
    SEVERAL_KEYS = "several_keys"
    MALFORMED_KEY = "malformed_key"
    UNKNOWN_KEY = "unknown_key"
    REVOKED_KEY = "revoked_key"
    EXPIRED_KEY = "expired_key"
    NO_SUBJECT = "no_subject"


@dataclass(frozen=True, slots=True)
class Allow:
    identity: Identity
    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deny:
    """`challenge`: the value of WWW-Authenticate with a 401. `identity`: whose credential it was, where known."""

    status: int
    reason: Reason
    detail: str
    challenge: str = ""
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class Undecided:
    """No decision is possible now (`detail` is for logs): the RPC must fail, and Envoy answers 503."""

    detail: str


@dataclass(frozen=True, slots=True)
class NeedsKey:
    """The look-up that `conclude` needs the result of."""

    key: ParsedKey
    source: KeySource


Decision = Allow | Deny | Undecided

_INVALID: Final = "The API key is not valid."


def examine(facts: Facts, view: PolicyView) -> Decision | NeedsKey:
    """A verified token wins over a key. Envoy has refused tokens that do not verify before it asks us."""
    if not facts.route or not (facts.accepts_jwt or facts.accepts_keys):
        return Deny(403, Reason.NOT_CONFIGURED, "No rule lets this request pass.")
    if facts.unknown:  # its key headers could not be kept from upstreams
        return Undecided("the route names a provider or a key source that is not known here (yet)")
    if facts.token is not None:
        return _from_token(facts, facts.token, view)
    if len(facts.keys) > 1 or any("," in value for _, value in facts.keys):
        return _unauthenticated(facts, Reason.SEVERAL_KEYS, "More than one API key was sent.")
    if not facts.keys:
        return _unauthenticated(facts, Reason.NO_CREDENTIALS, "Credentials are required.")
    source, text = facts.keys[0]
    parsed = keys.parse(text)
    return NeedsKey(parsed, source) if parsed else _unauthenticated(facts, Reason.MALFORMED_KEY, _INVALID)


def conclude(
    facts: Facts,
    view: PolicyView,
    needed: NeedsKey,
    record: KeyRecord | None,
    *,
    peppers: Mapping[int, bytes],
    now: float,
) -> Decision:
    """`record`: what is stored under the key's id. Only who holds the whole key can learn that it has expired."""
    pepper = peppers.get(record.pepper_version) if record else None
    if record is not None and pepper is None:
        return Undecided(f"the pepper of version {record.pepper_version} is not here")
    if record is None or pepper is None or not keys.same(keys.digest(pepper, needed.key.text), record.digest):
        return _unauthenticated(facts, Reason.UNKNOWN_KEY, _INVALID)
    identity = Identity(record.consumer, view.tier(record.tier), record.scopes, "key", record.id)
    if record.revoked:
        return _unauthenticated(facts, Reason.REVOKED_KEY, _INVALID, identity)
    if record.expires_at is not None and now >= record.expires_at:
        return _unauthenticated(facts, Reason.EXPIRED_KEY, "The API key has expired.", identity)
    forward = needed.source.forward_client_id
    return Allow(identity, ((forward, identity.client),) if forward else (), _stripped(facts))


def _from_token(facts: Facts, token: Token, view: PolicyView) -> Decision:
    if not isinstance(token.subject, str) or not token.subject:
        return _unauthenticated(facts, Reason.NO_SUBJECT, "The token names no subject.")
    client = f"{token.provider}|{token.subject}" if view.qualify_clients else token.subject
    return Allow(Identity(client, view.tier(token.tier), scopes(token.scopes), "jwt"), (), _stripped(facts))


def scopes(claim: Any) -> tuple[str, ...]:
    """A scope claim: a string with spaces between scopes (RFC 8693, 4.2) or a list of them; anything else is none."""
    if isinstance(claim, str):
        return tuple(claim.split())
    return tuple(s for s in claim if isinstance(s, str)) if isinstance(claim, list) else ()


def _stripped(facts: Facts) -> tuple[str, ...]:
    """Key headers that upstreams must not see, whichever credential was used."""
    return tuple(dict.fromkeys(name for source in facts.key_sources if source.strip for name in source.headers))


def _unauthenticated(facts: Facts, reason: Reason, detail: str, identity: Identity | None = None) -> Deny:
    schemes = [s for s, accepted in (("Bearer", facts.accepts_jwt), ("ApiKey", facts.accepts_keys)) if accepted]
    challenge = ", ".join(f'{scheme} realm="{REALM}"' for scheme in schemes)
    return Deny(401, reason, detail, challenge, identity)
