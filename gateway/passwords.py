"""Lines of `users_secret`: who may come with a password, and how passwords are hashed."""

import re
from typing import Final

TIME_COST: Final = 2
MEMORY_COST: Final = 19_456
PARALLELISM: Final = 1
"""Argon2id as OWASP's Password Storage Cheat Sheet wants it at least: about 20 ms and 19 MiB for each try."""

LONGEST: Final = 512
"""Characters of a name and of a password."""

_LINE: Final = re.compile(r"([A-Za-z0-9._@+-]{1,128}):(\$argon2id\$[A-Za-z0-9$+/=,]{1,400})")
_NAME: Final = re.compile(r"[A-Za-z0-9._@+-]{1,128}")


def is_user_name(text: str) -> bool:
    """Letters, digits and `._@+-`: what may stand in a header and in a log."""
    return _NAME.fullmatch(text) is not None


def users_of(text: str) -> tuple[dict[str, str], int]:
    """Hashes by user name, and how many lines are not of this form. Empty lines and `#` comments are skipped."""
    found: dict[str, str] = {}
    wrong = 0
    for line in text.splitlines():
        written = line.strip()
        matched = _LINE.fullmatch(written)
        if matched is not None:
            found[matched[1]] = matched[2]
        elif written and not written.startswith("#"):
            wrong += 1
    return found, wrong
