"""What the database says, as frozen values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Json = Any
"""What `json.loads` gives."""


@dataclass(frozen=True, slots=True)
class Head:
    """The one row that says what is current. `revision` 0: nothing was ever applied."""

    revision: int
    keys_version: int
    rollout_version: int = 0


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """`digest` is the caller's name for the content (the snapshot's version); `parent` 0: the first one.

    `allow_shrink`: its author said that much may be missing that the one before had. `git_commit`: what the files were
    in their repository, or nothing.
    """

    number: int
    parent: int
    digest: str
    author: str
    message: str
    created_at: datetime
    allow_shrink: bool = False
    git_commit: str = ""


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """One object of a revision. `positions`: `[path, line, column]` for each path (a list) within `body`.

    `ignored`: `[line, code]` of each warning that its file accepts.
    """

    kind: str
    name: str
    owner: str
    labels: Mapping[str, str]
    body: Json
    file: str
    positions: Sequence[Sequence[Any]] = ()
    ignored: Sequence[Sequence[Any]] = ()


@dataclass(frozen=True, slots=True)
class AuditRow:
    number: int
    at: datetime
    actor: str
    action: str
    object: str
    revision: int | None
    detail: Json
    hash: bytes


@dataclass(frozen=True, slots=True)
class ConsumerRow:
    id: str
    name: str
    tier: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class KeyRow:
    """An API key with its consumer's tier. The key itself is not here nor anywhere: `digest` is its HMAC-SHA-256.

    `allowed_ips`: CIDR ranges that callers must be in; none: anywhere. `previous_…`: the secret that it had before it
    was rotated, good until then.
    """

    id: str
    consumer: str
    tier: str
    name: str
    prefix: str
    digest: bytes = field(repr=False)
    pepper_version: int
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    keys_version: int
    disabled_at: datetime | None = None
    allowed_ips: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    previous_digest: bytes | None = field(default=None, repr=False)
    previous_pepper_version: int | None = None
    previous_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """An instance of a service, as it registered. `state`: `healthy`, `unhealthy` or `draining`.

    `ttl`: seconds that a heartbeat is good for; None, with `expires_at` None, until it is deregistered. `owner`: the
    name of the token that registered it.
    """

    service: str
    instance: str
    address: str
    port: int
    weight: int
    zone: str | None
    priority: int
    state: str
    labels: Mapping[str, str]
    owner: str
    ttl: float | None
    registered_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token of the control API; only its SHA-256 is stored."""

    id: str
    name: str
    role: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """A revision on its way to the fleet. Nodes of started waves (`members`, by wave) get it, all others `base`.

    `state`: running, paused, halted; done, rolled_back, aborted, superseded. `wave`: index of the newest that was
    started, -1 for none. `wave_at`: when, or when the rollout began. `acked_at`: since when all of the wave have it.
    `excused`: nodes whose refusal or silence an operator has accepted. `events`: `{at, what, who, …}` in order.
    """

    revision: int
    base: int
    state: str
    wave: int
    members: tuple[tuple[str, ...], ...]
    excused: frozenset[str]
    wave_at: datetime
    acked_at: datetime | None
    reason: str
    events: tuple[Mapping[str, Any], ...]

    @property
    def open(self) -> bool:
        """Whether it may still move."""
        return self.state in ("running", "paused", "halted")

    @property
    def admitted(self) -> frozenset[str]:
        return frozenset(node for wave in self.members for node in wave)


@dataclass(frozen=True, slots=True)
class FreezeRow:
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class FleetNode:
    """A node as a control plane sees it.

    `revision`: that it has in full, 0 if none is known. `rejected`: of which it refused something, with the refusal
    `nack` (`type version message names`); 0 for none. `seen_at`: since when this is so.
    """

    id: str
    cluster: str
    labels: Mapping[str, str]
    region: str
    zone: str
    connected: bool
    revision: int
    rejected: int
    nack: Mapping[str, Any] | None
    seen_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Fleet:
    """All nodes that any control plane knows. `since`: from when on all living control planes have watched them."""

    nodes: Mapping[str, FleetNode]
    since: datetime
