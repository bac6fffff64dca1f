"""What a stream's state machine says: frozen values, read by servicer, board, logs and rollout alike."""

from dataclasses import dataclass
from typing import Literal

from xds_server.resources import Resource


@dataclass(frozen=True, slots=True)
class Send:
    """One response to write. `version` is that of the whole type; `removed` is used by the delta variant only.

    `unknown`: those of `removed` that a client waits for and that nobody has, which Envoy must be told in another way.
    `ttl`: the client is told how long resources live. `heartbeat`: nothing is new, only their lives begin again;
    `bare`: it goes without their contents.
    """

    type_url: str
    nonce: str
    version: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...] = ()
    unknown: frozenset[str] = frozenset()
    ttl: bool = False
    heartbeat: bool = False
    bare: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Every name the response says something about."""
        return tuple(resource.name for resource in self.resources) + self.removed


@dataclass(frozen=True, slots=True)
class Acked:
    """The client took the response (statement 7)."""

    type_url: str
    version: str
    nonce: str


@dataclass(frozen=True, slots=True)
class Nacked:
    """The client refused something in the response; what it kept of the rest is unknown (statements 8, 11)."""

    type_url: str
    version: str
    nonce: str
    message: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reject:
    """The stream must end with this gRPC status."""

    code: Literal["INVALID_ARGUMENT", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "OK"]
    message: str


Event = Acked | Nacked | Reject
