"""The unit-carrying scalars of the language: durations, rates, percents, names, methods.

Each is written as a string with its unit (`1m30s`, `60/minute`, `5%`) and held as a plain number, so that no code after
decoding parses units again. Shapes follow Gateway API GEP-2257 for durations and operator practice for the others.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, StringConstraints, WithJsonSchema

_DURATION_PART = re.compile(r"(\d+)(ms|s|m|h|d)")
_MILLISECONDS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_RATE = re.compile(r"(\d{1,15})/(second|minute|hour|day|week|month|year)")
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,4})?)%")
_SIZE = re.compile(r"(\d{1,10})(B|KiB|MiB|GiB)")
_BYTE_RATE = re.compile(rf"{_SIZE.pattern}/s")
_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
LARGEST_SIZE: Final = 2**32 - 1

# envoyproxy/ratelimit's units: a month is 30 days and a year 365.
UNIT_SECONDS: Final = {
    "second": 1,
    "minute": 60,
    "hour": 3_600,
    "day": 86_400,
    "week": 604_800,
    "month": 2_592_000,
    "year": 31_536_000,
}


@dataclass(frozen=True, slots=True)
class Rate:
    """`requests` per `unit`; `seconds` is the unit's length."""

    requests: int
    unit: str

    @property
    def seconds(self) -> int:
        return UNIT_SECONDS[self.unit]

    def __str__(self) -> str:
        return f"{self.requests}/{self.unit}"


def parse_duration(value: Any) -> int:
    """`1m30s` -> 90000 (milliseconds). Raises ValueError with a hint for a bare number or an unknown unit."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f"a duration needs a unit: write {value}s or {value}ms")
    parts = _DURATION_PART.findall(value) if isinstance(value, str) else []
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise ValueError("not a duration: write it like 15s, 250ms or 1m30s")
    total = sum(int(number) * _MILLISECONDS[unit] for number, unit in parts)
    if total > 366 * _MILLISECONDS["d"]:
        raise ValueError("a duration may not be longer than a year")
    return total


def parse_rate(value: Any) -> Rate:
    """`60/minute` -> Rate(60, "minute"). Raises ValueError."""
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            "not a rate: write it like 60/minute (second, minute, hour, day, week, month of 30 days, year of 365 days)"
        )
    if int(found[1]) > 2**32 - 1:
        raise ValueError("a rate may not pass 4294967295, the largest that the rate limit protocol carries")
    return Rate(int(found[1]), found[2])


def parse_percent(value: Any) -> float:
    """`12.5%` -> 12.5. Raises ValueError."""
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is None or float(found[1]) > 100:
        raise ValueError("not a percentage: write it like 5% or 12.5%, from 0% to 100%")
    return float(found[1])


def parse_size(value: Any) -> int:
    """`64KiB` -> 65536 (bytes). Raises ValueError."""
    return _bytes(_SIZE, value, "a size: write it like 512B, 64KiB or 1MiB")


def parse_byte_rate(value: Any) -> int:
    """`512KiB/s` -> 524288 (bytes per second). Raises ValueError."""
    return _bytes(_BYTE_RATE, value, "a byte rate: write it like 64KiB/s or 1MiB/s")


def _bytes(pattern: re.Pattern[str], value: Any, wanted: str) -> int:
    found = pattern.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"not {wanted}")
    total = int(found[1]) * _BYTES[found[2]]
    if total > LARGEST_SIZE:
        raise ValueError("no more than 4294967295 bytes can be configured")
    return total


Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(ms|s|m|h|d))+$", "examples": ["15s", "1m30s"]}),
]
"""Milliseconds."""

RateField = Annotated[
    Rate,
    BeforeValidator(parse_rate),
    WithJsonSchema({"type": "string", "pattern": f"^{_RATE.pattern}$", "examples": ["60/minute"]}),
]
Percent = Annotated[
    float,
    BeforeValidator(parse_percent),
    WithJsonSchema({"type": "string", "pattern": f"^{_PERCENT.pattern}$", "examples": ["5%"]}),
]
"""0.0 to 100.0."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$", "examples": ["64KiB", "1MiB"]}),
]
"""Bytes."""

ByteRate = Annotated[
    int,
    BeforeValidator(parse_byte_rate),
    WithJsonSchema({"type": "string", "pattern": f"^{_BYTE_RATE.pattern}$", "examples": ["512KiB/s"]}),
]
"""Bytes per second."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$")]
"""What an operator may call an object: it becomes part of Envoy resource names and of statistics."""

Host = Annotated[
    str,
    StringConstraints(
        pattern=r"^(\*|(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)$", max_length=253
    ),
]
"""`api.example.com`, `*.example.com` or `*`; lower case, no port (RFC 9110 compares hosts without case)."""

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^`|~-]+$", max_length=256, to_lower=True)]
"""An RFC 9110 field name without underscores (the listener rejects those), held in lower case."""

CookieName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", max_length=256)]
"""An RFC 6265 cookie name; case counts."""

HeaderValue = Annotated[str, StringConstraints(pattern=r"^[\t\x20-\x7e\x80-\xff]*$", max_length=8192)]
"""An RFC 9110 field value: no CR, LF or NUL."""

Method = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z-]{0,31}$")]
