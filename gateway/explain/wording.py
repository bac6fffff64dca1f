"""Numbers as the language writes them."""

from typing import Final

_UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


def duration(milliseconds: int) -> str:
    """90000 -> `1m30s`."""
    found = ""
    for unit, size in _UNITS:
        count, milliseconds = divmod(milliseconds, size)
        found += f"{count}{unit}" if count else ""
    return found or "0s"
