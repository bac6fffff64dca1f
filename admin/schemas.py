"""What requests look like. Unknown members are refused, so that a typo never passes for a default."""

import ipaddress
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from gateway.model import PortNumber
from gateway.scalars import parse_duration

NEVER: Final = "never"


def _duration(value: str) -> str:
    if value != NEVER:
        parse_duration(value)
    return value


def _within(value: str, least: int, most: int) -> str:
    if not least <= parse_duration(value) <= most:
        raise ValueError(f"a duration from {least // 1000}s to {most // 1000}s is needed")
    return value


def _ttl(value: str) -> str:
    return value if value == "none" else _within(value, 5_000, 3_600_000)


def _drain(value: str) -> str:
    return _within(value, 1_000, 3_600_000)


def _overlap(value: str) -> str:
    return _within(value, 0, 90 * 86_400_000)


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError(f"an address or a CIDR range is needed: {error}") from None


# No control characters (\x7f and C1 included): these words end up in logs, tables and terminals.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", max_length=1024)]
Label = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]+$", max_length=255)]
Scope = Annotated[
    str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$", max_length=255)
]  # RFC 6749 section 3.3
Lifetime = Annotated[str, AfterValidator(_duration), Field(examples=["90d", "12h"])]

Network = Annotated[str, AfterValidator(_network), Field(max_length=64, examples=["192.0.2.0/24", "2001:db8::7"])]
Networks = Annotated[list[Network], Field(max_length=100)]

Limit = Annotated[int, Query(ge=1, le=500, description="How many at most")]
Before = Annotated[int | None, Query(ge=1, description="Only smaller numbers: the last one of the page before")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class File(Body):
    name: Label
    text: str = Field(max_length=4 << 20)


Commit = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{7,64}(-dirty)?)?$")]


class ApplyBody(Body):
    """`expected_revision`: refuse if the head is another one. `prune`: delete what the owners no longer write.

    `allow_shrink`: take away more than 30 % of the listeners, routes or upstreams. `supersede`: take the place of a
    revision that is on its way to the fleet; the waves begin again. `git_commit`: what the files are in
    their repository.
    """

    files: list[File] = Field(min_length=1, max_length=1000)
    message: Text = ""
    prune: bool = False
    dry_run: bool = False
    allow_shrink: bool = False
    supersede: bool = False
    git_commit: Commit = ""
    expected_revision: int | None = Field(default=None, ge=0)


class PlanBody(ApplyBody):
    """`envoy`: whether a real Envoy is asked. `xds`: show how Envoy's resources differ too, as text."""

    envoy: bool = True
    xds: bool = False


class UndoBody(Body):
    """`revision`: whose content is wanted again, by default the one before the head's."""

    revision: int | None = Field(default=None, ge=1)
    message: Text = ""
    supersede: bool = False
    expected_revision: int | None = Field(default=None, ge=0)


class AccessBody(Body):
    """`owner`: whose objects an author applies; only for that role."""

    name: Label
    role: Literal["viewer", "registrar", "author", "operator", "admin"]
    owner: Label | None = None
    expires_in: Lifetime = "90d"


class PromoteBody(Body):
    """`everywhere`: not the next wave only, but all nodes."""

    everywhere: bool = False


class FreezeBody(Body):
    reason: Annotated[Text, StringConstraints(min_length=1)]


class KeyBody(Body):
    """`expires_in`: a duration, or `never`. `consumer`: the id of an existing one, else one is made.

    `allowed_ips`: addresses and CIDR ranges that callers must come from; none: from anywhere.
    """

    name: Label
    tier: Label | None = None
    scopes: list[Scope] = Field(default=[], max_length=100)
    expires_in: Lifetime = "90d"
    consumer: Label | None = None
    allowed_ips: Networks = []
    labels: dict[Label, Label] = Field(default={}, max_length=32)


class KeyChangeBody(Body):
    """What is not there stays as it is. `disabled` is for a while, where revoking is for good."""

    name: Label | None = None
    scopes: list[Scope] | None = Field(default=None, max_length=100)
    allowed_ips: Networks | None = None
    labels: dict[Label, Label] | None = Field(default=None, max_length=32)
    disabled: bool | None = None


class RotateBody(Body):
    """`overlap`: how long the secret that is replaced still works, up to 90d. `expires_in`: a new life for the key."""

    overlap: Annotated[str, AfterValidator(_overlap), Field(examples=["24h", "0s"])] = "24h"
    expires_in: Lifetime | None = None


class TokenBody(Body):
    provider: Label
    subject: Label
    tier: Label | None = None
    scopes: list[Scope] = Field(default=[], max_length=100)
    claims: dict[str, Any] = Field(default={}, max_length=100)
    expires_in: Annotated[str, AfterValidator(_duration), Field(examples=["1h"])] = "1h"


class EndpointBody(Body):
    """`ttl`: how long without a heartbeat until it is forgotten, 5s to 1h, or `none`."""

    address: Label
    port: PortNumber
    weight: int = Field(default=1, ge=1, le=128)
    zone: Annotated[Label, StringConstraints(max_length=128)] | None = None
    priority: int = Field(default=0, ge=0, le=127)
    state: Literal["healthy", "unhealthy"] = "healthy"
    labels: dict[Label, Label] = Field(default={}, max_length=32)
    ttl: Annotated[str, AfterValidator(_ttl), Field(examples=["30s", "none"])] = "30s"


class DrainBody(Body):
    """`for`: how long requests on their way have, 1s to 1h."""

    for_: Annotated[str, AfterValidator(_drain), Field(alias="for", examples=["60s"])] = "60s"


def lifetime(written: str) -> timedelta | None:
    return None if written == NEVER else timedelta(milliseconds=parse_duration(written))
