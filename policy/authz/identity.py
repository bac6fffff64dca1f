"""Who is calling, and the records that say so."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Identity:
    """What later filters see (dynamic metadata). `client` is what limits count by."""

    client: str
    tier: str
    scopes: tuple[str, ...]
    credential: Literal["jwt", "key", "basic", "certificate", "anonymous"]
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is stored of an API key. Times are seconds since the epoch; `digest` is under the pepper of that version."""

    id: str
    consumer: str
    tier: str
    scopes: tuple[str, ...]
    digest: bytes = field(repr=False)
    pepper_version: int
    expires_at: float | None = None
    revoked: bool = False
