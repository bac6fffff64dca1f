"""JSON in one form, so that equal values have equal bytes and an equal hash."""

import hashlib
import json

from db.rows import Json


def text(value: Json) -> str:
    """Compact JSON, keys in the order given: an object's order can carry meaning (`tiers` are ranked by it).

    Raises ValueError for NaN and infinities, which JSON has not.
    """
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def digest(canonical: str) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(canonical.encode()).hexdigest()
