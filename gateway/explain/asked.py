"""A request as `explain` is asked about it: what comes over the wire, and what is known of who sends it.

Credentials are facts here, never texts: whoever asks has taken a token or a key apart before. So nothing that is
explained, printed or logged can hold one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.conditions import header_lines
from gateway.match import Request

KeyState = Literal["good", "unchecked", "malformed", "unknown", "wrong", "revoked", "disabled", "expired"]


@dataclass(frozen=True, slots=True)
class Token:
    """A JSON Web Token by its claims. It stands where the provider for whom it is looks first.

    `provider`: for whom; else by its issuer (see `carrying.meant_for`). `signature`: `unchecked` counts as good, and
    the explanation says so. `assumed`: there is no token, only claims that one would have
    (see `carrying.completed`).
    """

    claims: Mapping[str, Any] = field(repr=False)
    provider: str | None = None
    signature: Literal["good", "bad", "unchecked"] = "unchecked"
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """An API key by what is stored of it. It stands where the first source of the route looks first.

    `state` `unchecked`: its facts are known or assumed, and nobody has compared the secret part. `networks`: where its
    callers must be; none: anywhere.
    """

    state: KeyState = "unchecked"
    client: str = "-"
    tier: str | None = None
    scopes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Password:
    """A name with a password that is right or wrong, for the first of the route's sources."""

    user: str
    right: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """`request.listener` names the listener; without it scheme and port find it.

    `address`: the caller's, as Envoy takes it (behind trusted hops: the one that they tell). `certificate`: kind and
    value of each name in a verified client certificate. `session`: a browser that has logged in, whose ID token is
    `token`. `now`: seconds since the epoch.
    """

    request: Request
    scheme: Literal["http", "https"] = "http"
    port: int | None = None
    sni: str | None = None
    address: str = "127.0.0.1"
    token: Token | None = None
    key: Key | None = None
    password: Password | None = None
    certificate: tuple[tuple[str, str], ...] = ()
    session: bool = False
    now: float = 0.0

    def header(self, name: str) -> str | None:
        """A header by its name in lower case, as Envoy has it: several lines may be joined."""
        return next(iter(header_lines(self.request.headers, "").get(name, ())), None)
