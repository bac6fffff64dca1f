"""API keys: their text, and the digest that is stored in place of it.

    gw_<environment>_<id>_<secret>_<checksum>      gw_live_4fXc9QpL2m_…32 characters…_1bTq3Z

`id` (10 base62 characters) is public: it names the key in tables and logs. `secret` has 190 random bits. `checksum` is
the CRC-32 of everything before it in six base62 digits, the way GitHub's tokens have one, so that typos and scanners'
junk are refused without a look-up and secret scanners can match keys offline. Only the digest is ever stored:
HMAC-SHA-256 under a pepper that the database does not hold. A slow hash would add nothing to 190 random bits and would
be a way to exhaust us.
"""

import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field
from typing import Final

ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH: Final = 10
SECRET_LENGTH: Final = 32
CHECKSUM_LENGTH: Final = 6
MAX_LENGTH: Final = 160
PEPPER_LENGTH: Final = 16  # the least number of bytes that a pepper must have

_TEXT = re.compile(
    rf"(gw_([a-z][a-z0-9]{{0,15}})_([0-9A-Za-z]{{{ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH},64}})"
    rf"_([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})"
)
PAIRS: Final = tuple(high + low for high in ALPHABET for low in ALPHABET)
"""Two digits each: every request's key is summed up."""
_ENVIRONMENT = re.compile(r"[a-z][a-z0-9]{0,15}")


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A new key. `text` is shown once to its owner and kept nowhere; `id`, `prefix` and `digest` are what is stored."""

    id: str
    text: str = field(repr=False)
    digest: bytes = field(repr=False)
    prefix: str


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """A well-formed key text. That it is well-formed says nothing about whether such a key exists."""

    id: str
    environment: str
    text: str = field(repr=False)


def mint(pepper: bytes, environment: str = "live") -> MintedKey:
    """A new random key. `environment` (lower case, at most 16 characters) is only a label within the text.

    Raises ValueError for a pepper under 16 bytes or a bad label.
    """
    if _ENVIRONMENT.fullmatch(environment) is None:
        raise ValueError("the environment of a key is 1 to 16 lower-case letters and digits, a letter first")
    return remint(pepper, f"gw_{environment}_{_random(ID_LENGTH)}")


def remint(pepper: bytes, prefix: str) -> MintedKey:
    """Another secret for a key that there is: its id stays. `prefix`: as it was minted."""
    body = f"{prefix}_{_random(SECRET_LENGTH)}"
    text = f"{body}_{checksum(body)}"
    return MintedKey(id=prefix.rpartition("_")[2], text=text, digest=digest(pepper, text), prefix=prefix)


def parse(text: str) -> ParsedKey | None:
    """The key's parts, or None when the shape or the checksum is wrong: no such key was ever minted."""
    found = _TEXT.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if found is None or checksum(found[1]) != found[4]:
        return None
    return ParsedKey(id=found[3], environment=found[2], text=text)


def digest(pepper: bytes, text: str) -> bytes:
    """HMAC-SHA-256 (32 bytes) of the whole text. Raises ValueError for a pepper under 16 bytes."""
    if len(pepper) < PEPPER_LENGTH:
        raise ValueError(f"the pepper must have at least {PEPPER_LENGTH} bytes")
    return hmac.digest(pepper, text.encode(), "sha256")


def same(one: bytes, other: bytes) -> bool:
    """Whether two digests are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(one, other)


def checksum(body: str) -> str:
    """CRC-32 of `body` as six base62 digits, most significant first."""
    rest, last = divmod(zlib.crc32(body.encode()), len(PAIRS))
    first, middle = divmod(rest, len(PAIRS))
    return PAIRS[first] + PAIRS[middle] + PAIRS[last]


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
