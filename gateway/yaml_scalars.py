"""Plain scalars by YAML 1.2's core schema (chapter 10.3), and which of them YAML 1.1 reads as something else."""

import math
import re
from typing import Final

import yaml

_CONSTANTS: Final[dict[str, bool | None]] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LONGEST_NUMBER: Final = 18
_NUMBERS_BEGIN: Final = frozenset("+-.0123456789")
_BOOLEANS_OF_1_1: Final = frozenset(
    w for word in ("yes", "no", "on", "off") for w in (word, word.title(), word.upper())
)
_READ_AS_1_1: Final = {
    "tag:yaml.org,2002:bool": "a boolean",
    "tag:yaml.org,2002:int": "another number",
    "tag:yaml.org,2002:float": "another number",
    "tag:yaml.org,2002:timestamp": "a date",
    "tag:yaml.org,2002:value": "the default key",
}


class NumberError(ValueError):
    """A number that no double or 64-bit integer holds."""


def resolve(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar. Raises NumberError for numbers that JSON or PostgreSQL could not carry."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in _NUMBERS_BEGIN:  # most are words
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return _float(text)
    if _NOT_FINITE.fullmatch(text):
        raise NumberError(f"{text} is not a number that can be used here")
    return text


def ambiguity(text: str) -> str | None:
    """What YAML 1.1 makes of a plain scalar that YAML 1.2 reads differently; None if both agree."""
    if text in _BOOLEANS_OF_1_1:
        return "a boolean"
    if text[:1] not in _NUMBERS_BEGIN and text != "=":
        return None
    if len(text) > 64 or (text.isdecimal() and text[0] != "0"):
        return None
    return _differs(text)


def _differs(text: str) -> str | None:
    old = _tag_in_1_1(text)
    if _INTEGER.fullmatch(text):
        same = old == "tag:yaml.org,2002:int" and not re.match(r"[-+]?0[0-9]", text)
        return None if same else _READ_AS_1_1.get(old, "text")
    if _FLOAT.fullmatch(text):
        return None if old == "tag:yaml.org,2002:float" else "text"
    return _READ_AS_1_1.get(old)


def _tag_in_1_1(text: str) -> str:
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers.get(text[0], [])
    return next((tag for tag, pattern in resolvers if pattern.match(text)), "tag:yaml.org,2002:str")


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise NumberError(f"a number of {len(text)} digits is too long")
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _float(text: str) -> float:
    value = float(text) if len(text) <= 64 else math.inf
    if not math.isfinite(value):
        raise NumberError("the number is too large or too long")
    return value
