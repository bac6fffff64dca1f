"""What requests look like. Unknown members are refused, so that a typo never passes for a default."""

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


# No control characters (\x7f and C1 included): these words end up in logs, tables and terminals.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", max_length=1024)]
Label = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]+$", max_length=255)]
Scope = Annotated[
    str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$", max_length=255)
]  # RFC 6749 section 3.3
Lifetime = Annotated[str, AfterValidator(_duration), Field(examples=["90d", "12h"])]

Limit = Annotated[int, Query(ge=1, le=500, description="How many at most")]
Before = Annotated[int | None, Query(ge=1, description="Only smaller numbers: the last one of the page before")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class File(Body):
    name: Label
    text: str = Field(max_length=4 << 20)


class ApplyBody(Body):
    """`expected_revision`: refuse if the head is another one. `prune`: delete what the owners no longer write.

    `allow_shrink`: take away more than 30 % of the listeners, routes or upstreams.
    """

    files: list[File] = Field(min_length=1, max_length=1000)
    message: Text = ""
    prune: bool = False
    dry_run: bool = False
    allow_shrink: bool = False
    expected_revision: int | None = Field(default=None, ge=0)


class KeyBody(Body):
    """`expires_in`: a duration, or `never`. `consumer`: the id of an existing one, else one is made."""

    name: Label
    tier: Label | None = None
    scopes: list[Scope] = Field(default=[], max_length=100)
    expires_in: Lifetime = "90d"
    consumer: Label | None = None


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
