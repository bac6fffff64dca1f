"""Who is calling, and the records that say so."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Literal, NamedTuple

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Identity:
    """What later filters see (dynamic metadata). `client` is what limits count by."""

    client: str
    tier: str
    scopes: tuple[str, ...]
    credential: Literal["jwt", "key", "basic", "certificate", "anonymous"]
    key_id: str | None = None


class Previous(NamedTuple):
    """The secret that a key had before it was rotated, good until `until` (seconds since the epoch)."""

    digest: bytes
    pepper_version: int
    until: float


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is stored of an API key. Times are seconds since the epoch; `digest` is under the pepper of that version.

    `networks`: where callers must be; none: anywhere.
    """

    id: str
    consumer: str
    tier: str
    scopes: tuple[str, ...]
    digest: bytes = field(repr=False)
    pepper_version: int
    expires_at: float | None = None
    revoked: bool = False
    disabled: bool = False
    networks: tuple[Network, ...] = ()
    previous: Previous | None = field(default=None, repr=False)

    def digests(self, now: float) -> Iterator[tuple[bytes, int]]:
        """Of the secrets that are good now, each with its pepper's version; the newest first."""
        yield self.digest, self.pepper_version
        if self.previous is not None and now < self.previous.until:
            yield self.previous.digest, self.previous.pepper_version
