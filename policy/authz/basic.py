"""`Authorization: Basic …` (RFC 7617): a name and a password."""

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final

from gateway.passwords import LONGEST

SCHEME: Final = "basic"


@dataclass(frozen=True, slots=True)
class Password:
    user: str
    password: str = field(repr=False)


def is_basic(value: str) -> bool:
    return value.partition(" ")[0].lower() == SCHEME


def parse(value: str) -> Password | None:
    """None for what is not base64 of UTF-8 with a colon, or is longer than anybody's name and password."""
    encoded = value.partition(" ")[2].strip()
    if len(encoded) > 4 * LONGEST:
        return None
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    good = bool(colon and user) and len(user) <= LONGEST and len(password) <= LONGEST
    return Password(user, password) if good else None
