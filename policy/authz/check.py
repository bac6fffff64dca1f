"""The decision about who is calling: pure, in two steps around the one thing that must be looked up.

`examine` decides everything that the request itself decides; when an API key must be looked up or a password verified
it says so, and `conclude` or `admitted` decides with what was found. Where several ways must all hold, each is decided
by itself (`Facts.ways`) and `together` joins them.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from policy.authz import basic, certificates, keys
from policy.authz.basic import Password
from policy.authz.facts import Facts, Token
from policy.authz.identity import Identity, KeyRecord, Network
from policy.authz.keys import ParsedKey
from policy.authz.peppers import Peppers
from policy.view import BasicSource, KeySource, PolicyView

REALM: Final = "tollhouse"


class Reason(StrEnum):
    """Why a request was denied: for metrics and access logs. Callers hear the code and the detail, which tell less."""

    NOT_CONFIGURED = "not_configured"
    NO_CREDENTIALS = "no_credentials"
    SEVERAL_KEYS = "several_keys"
    MALFORMED_KEY = "malformed_key"
    UNKNOWN_KEY = "unknown_key"
    WRONG_SECRET = "wrong_secret"  # noqa: S105 - the name of a reason
    REVOKED_KEY = "revoked_key"
    DISABLED_KEY = "disabled_key"
    EXPIRED_KEY = "expired_key"
    WRONG_ADDRESS = "wrong_address"
    NO_SUBJECT = "no_subject"
    MALFORMED_PASSWORD = "malformed_password"  # noqa: S105 - the name of a reason
    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - the same
    UNKNOWN_CERTIFICATE = "unknown_certificate"

    @property
    def code(self) -> str:
        """What a caller hears. Every fault of a key sounds the same, but for its end: its holder may learn that."""
        return CODES.get(self, "invalid_key")


CODES: Final = {
    Reason.NOT_CONFIGURED: "not_configured",
    Reason.NO_CREDENTIALS: "no_credentials",
    Reason.SEVERAL_KEYS: "several_keys",
    Reason.EXPIRED_KEY: "expired_key",
    Reason.NO_SUBJECT: "invalid_token",
    Reason.MALFORMED_PASSWORD: "invalid_password",
    Reason.WRONG_PASSWORD: "invalid_password",
    Reason.UNKNOWN_CERTIFICATE: "invalid_certificate",
}


@dataclass(frozen=True, slots=True)
class Allow:
    identity: Identity
    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: tuple[str, ...] = ()
    remove_query: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True)
class NeedsPassword:
    """The verification whose result `admitted` needs: of `credential`, by the first source that knows the name."""

    credential: Password
    sources: tuple[BasicSource, ...]


Decision = Allow | Deny | Undecided

_INVALID: Final = "The API key is not valid."
_WRONG: Final = "The user name or password is not valid."


def examine(facts: Facts, view: PolicyView) -> Decision | NeedsKey | NeedsPassword:
    """A verified token wins over a key, a key over a password, and that over a certificate, which is always there.

    Envoy has refused tokens that do not verify before it asks us. A bad credential is refused wherever it stands,
    also where none would have done.
    """
    if facts.unknown:  # credentials could not be kept from upstreams
        return Undecided("the route names a way to authenticate that is not known here (yet)")
    if not facts.route or not facts.accepts_anything:
        return Deny(403, Reason.NOT_CONFIGURED, "No rule lets this request pass.")
    if facts.tokens:
        return _from_token(facts, facts.tokens[0], view)
    if facts.keys:
        return _from_keys(facts)
    if passwords := [value for value in facts.authorization if basic.is_basic(value)]:
        return _from_passwords(facts, passwords)
    if facts.certificate:
        return _from_certificate(facts, view)
    if facts.optional:
        return _allow(facts, Identity(f"ip|{facts.address}", view.tier(None), (), "anonymous"))
    return _unauthenticated(facts, Reason.NO_CREDENTIALS, "Credentials are required.")


def _from_keys(facts: Facts) -> Decision | NeedsKey:
    if len(facts.keys) > 1 or any("," in value for _, value in facts.keys):
        return _unauthenticated(facts, Reason.SEVERAL_KEYS, "More than one API key was sent.")
    source, text = facts.keys[0]
    parsed = keys.parse(text)
    return NeedsKey(parsed, source) if parsed else _unauthenticated(facts, Reason.MALFORMED_KEY, _INVALID)


def _from_passwords(facts: Facts, values: Sequence[str]) -> Decision | NeedsPassword:
    parsed = basic.parse(values[0]) if len(values) == 1 else None
    if parsed is None:
        return _unauthenticated(facts, Reason.MALFORMED_PASSWORD, _WRONG)
    return NeedsPassword(parsed, facts.basic_sources)


def _from_certificate(facts: Facts, view: PolicyView) -> Decision:
    found = certificates.found(certificates.names_of(facts.certificate), facts.certificate_sources)
    if found is None:
        detail = "The client certificate has none of the names that are let in."
        return _unauthenticated(facts, Reason.UNKNOWN_CERTIFICATE, detail)
    source, name = found
    identity = Identity(f"{source.name}|{name}", view.tier(source.tier), source.scopes, "certificate")
    forward = source.forward_client_id
    return _allow(facts, identity, ((forward, name),) if forward and header_safe(name) else ())


def header_safe(value: str) -> bool:
    return value.isascii() and value.isprintable()


def admitted(facts: Facts, view: PolicyView, needed: NeedsPassword, source: BasicSource | None) -> Decision:
    """`source`: the one by which the password is right, or None."""
    user = needed.credential.user
    if source is None:
        return _unauthenticated(facts, Reason.WRONG_PASSWORD, _WRONG)
    forward = source.forward_username
    identity = Identity(f"{source.name}|{user}", view.tier(None), (), "basic")
    return _allow(facts, identity, ((forward, user),) if forward else ())


def together(facts: Facts, decisions: Sequence[Allow]) -> Allow:
    """Every way of `all_of` holds: the first one says who that is."""
    forwarded = tuple(header for one in decisions for header in one.set_headers if header[0] != "cookie")
    return _allow(facts, decisions[0].identity, forwarded)


def conclude(
    facts: Facts,
    view: PolicyView,
    needed: NeedsKey,
    record: KeyRecord | None,
    *,
    peppers: Peppers,
    now: float,
) -> Decision:
    """`record`: what is stored under the key's id. Only who holds the whole key can learn that it has expired."""
    if record is None:
        return _unauthenticated(facts, Reason.UNKNOWN_KEY, _INVALID)
    known = [(digest, peppers[version]) for digest, version in record.digests(now) if version in peppers]
    if not any(keys.same(keys.digest(pepper, needed.key.text), digest) for digest, pepper in known):
        if record.pepper_version not in peppers:
            return Undecided(f"the pepper of version {record.pepper_version} is not here")
        return _unauthenticated(facts, Reason.WRONG_SECRET, _INVALID)
    identity = Identity(record.consumer, view.tier(record.tier), record.scopes, "key", record.id)
    if (fault := _fault(record, facts.address, now)) is not None:
        detail = "The API key has expired." if fault is Reason.EXPIRED_KEY else _INVALID
        return _unauthenticated(facts, fault, detail, identity)
    forward = needed.source.forward_client_id
    return _allow(facts, identity, ((forward, identity.client),) if forward else ())


def _fault(record: KeyRecord, address: str, now: float) -> Reason | None:
    """Why the whole key does not help its holder."""
    if record.revoked:
        return Reason.REVOKED_KEY
    if record.disabled:
        return Reason.DISABLED_KEY
    if record.networks and not _within(address, record.networks):  # before its end: who stole it learns nothing
        return Reason.WRONG_ADDRESS
    expired = record.expires_at is not None and now >= record.expires_at
    return Reason.EXPIRED_KEY if expired else None


def _within(address: str, networks: Sequence[Network]) -> bool:
    """An IPv4 caller of a listener that speaks both comes as ::ffff:a.b.c.d."""
    try:
        at = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = at.ipv4_mapped if isinstance(at, ipaddress.IPv6Address) else None
    return any((mapped or at) in network for network in networks)


def _from_token(facts: Facts, token: Token, view: PolicyView) -> Decision:
    if not isinstance(token.subject, str) or not token.subject:
        return _unauthenticated(facts, Reason.NO_SUBJECT, "The token names no subject.")
    client = f"{token.provider}|{token.subject}" if view.qualify_clients else token.subject
    return _allow(facts, Identity(client, view.tier(token.tier), scopes(token.scopes), "jwt"))


def scopes(claim: Any) -> tuple[str, ...]:
    """A scope claim: a string with spaces between scopes (RFC 8693, 4.2) or a list of them; anything else is none."""
    if isinstance(claim, str):
        return tuple(claim.split())
    return tuple(s for s in claim if isinstance(s, str)) if isinstance(claim, list) else ()


def _allow(facts: Facts, identity: Identity, forwarded: tuple[tuple[str, str], ...] = ()) -> Allow:
    """Without what upstreams must not see, whichever credential was used: keys, and passwords."""
    stripped = [source for source in facts.key_sources if source.strip]
    headers = dict.fromkeys(name for source in stripped for name in source.headers)
    if any(basic.is_basic(value) for value in facts.authorization):
        headers["authorization"] = None
    secret = {name for source in stripped for name in source.cookies}
    kept = [f"{name}={value}" for name, value in facts.cookies if name not in secret]
    if len(kept) < len(facts.cookies):
        forwarded = (*forwarded, ("cookie", "; ".join(kept))) if kept else forwarded
        headers |= {} if kept else {"cookie": None}
    query = tuple(dict.fromkeys(name for source in stripped for name in source.query))
    return Allow(identity, forwarded, tuple(headers), query)


def _unauthenticated(facts: Facts, reason: Reason, detail: str, identity: Identity | None = None) -> Deny:
    """A challenge for each scheme (RFC 9110, 11.6.1). RFC 6750 wants a token's fault named, and only where one came."""
    accepted = {"Bearer": facts.providers, "ApiKey": facts.key_sources, "Basic": facts.basic_sources}
    challenges = [f'{scheme} realm="{REALM}"' for scheme, sources in accepted.items() if sources]
    if reason is Reason.NO_SUBJECT:
        challenges[0] += ', error="invalid_token"'
    challenge = ", ".join(challenges)
    return Deny(401, reason, detail, challenge, identity)
