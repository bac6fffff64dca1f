"""The sentence, the code and the help for each kind of error that decoding can find."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gateway.model import Gateway
from gateway.problems import Path, Problem, dotted
from gateway.words import closest, did_you_mean, fields_at, owners_of, planned, unsafe

UNION_OF_SCALARS: Final = ("constrained-str", "str", "bool", "int")
"""Tags of union members that are scalars."""

_EXPECTED: Final = {
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
}
_PATTERNS: Final = (
    (r"^[a-z0-9]([a-z0-9_-]", "must be a name: lower-case letters, digits, `-` and `_`, at most 63 characters"),
    (r"^(\*|(\*\.)?", "must be a host: `api.example.com`, `*.example.com` or `*`, in lower case and without a port"),
    (r"^[A-Za-z0-9!#$%&'*+.^_", "must be the name of a cookie: letters, digits, `-`, `_` and `.`"),
    (r"^[A-Za-z_][A-Za-z0-9_]*(", "must be the full name of a gRPC service, such as shop.v1.Orders"),
    (r"^[A-Za-z0-9!#", "must be a header name: letters, digits and `-`, no underscore"),
    (r"^[\t\x20", "must be a header value: one line of printable characters"),
    (r"^[A-Z][A-Z-]", "must be an HTTP method in upper case, such as GET"),
    (r"^/[^?#", "must be a path that begins with `/`, without `?`, `#` and white space"),
    (r"^(response_bytes", "must be response_bytes or response_header:<name>, in lower case"),
    (r"^(client|ip", "must be client, ip, route or claim:<name>"),
    (r"^(\*\.)?[a-z0-9](", "must be a host such as app.example.com, *.example.com or localhost:3000, without a scheme"),
    (r"^[a-z0-9.+-]+/", "must be a media type such as application/json, in lower case and without parameters"),
    (r"^[1-5]\d\d", "must be a status such as 200, or a range such as 200-299"),
)
_HINTS: Final = {
    "path": "write {{exact: {0}}}, {{prefix: {0}}}, {{template: {0}}} or {{regex: {0}}}",
    "authentication": "write {{any_of: [{0}]}}",
}
"""Help where a bare word stands for a mapping, by the last part of the path."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One pydantic error: its place in the document, the union tags on the way (with the value there), the value.

    `root`: the model of the whole document, which knows its words.
    """

    error: ErrorDetails
    path: Path
    tags: tuple[tuple[Any, str], ...]
    value: Any
    root: type[BaseModel] = Gateway

    @property
    def type(self) -> str:
        return self.error["type"]

    @property
    def context(self) -> Mapping[str, Any]:
        return self.error.get("ctx", {})

    @property
    def last_tag(self) -> str:
        return self.tags[-1][1] if self.tags else ""

    @property
    def missing(self) -> str:
        """The name of the field that is missing, or nothing."""
        return str(self.error["loc"][-1]) if self.type == "missing" else ""

    @property
    def place(self) -> str:
        return dotted(self.path) or "the document"


def problem_of(finding: Finding) -> Problem:
    if finding.last_tag == "[key]":
        return _bad_key(finding)
    if finding.last_tag.startswith("literal["):
        return _none_or_mapping(finding)
    if finding.last_tag in UNION_OF_SCALARS[1:]:
        return Problem(
            "GW104", finding.path, f"{finding.place} must be text, a whole number, true or false, not {_kind(finding)}"
        )
    wording = _WORDINGS.get(finding.type)
    if wording is not None:
        return wording(finding)
    if finding.type in _EXPECTED:
        return _wrong_type(finding, _EXPECTED[finding.type])
    message = finding.error["msg"].replace("Input should", "must").replace("String should", "must")
    return Problem("GW105", finding.path, f"{finding.place} {message[:1].lower()}{message[1:]}")


def suggestion(finding: Finding) -> str | None:
    """For an unknown field, the one that was probably meant."""
    return closest(str(finding.path[-1]), fields_at(finding.path[:-1], finding.root))


def _unknown_field(finding: Finding) -> Problem:
    name, parent, root = str(finding.path[-1]), finding.path[:-1], finding.root
    in_ = f" in {dotted(parent)}" if parent else ""
    if planned(parent, name, root):
        return Problem("GW106", finding.path, f"'{name}'{in_} is not supported yet", "leave it out")
    if why := unsafe(parent, name, root):
        code, reason, help_ = why
        return Problem(code, finding.path, reason, help_)
    types = owners_of(name, parent, root)
    close = suggestion(finding)
    help_ = f"'{name}' goes with `type: {types[0]}`" if types else f"did you mean '{close}'?" if close else ""
    return Problem(
        "GW101", finding.path, f"unknown field '{_short(name)}'{in_}", help_ or _choice(fields_at(parent, root))
    )


def _missing(finding: Finding) -> Problem:
    return Problem("GW103", finding.path, f"{finding.place} needs the field '{finding.missing}'")


def _no_type(finding: Finding) -> Problem:
    help_ = "write `type: static`, `type: dns` or `type: eds`"
    return Problem("GW103", finding.path, f"{finding.place} needs the field 'type'", help_)


def _bad_type(finding: Finding) -> Problem:
    return _not_among(
        finding, (*finding.path, "type"), finding.context["tag"], finding.context["expected_tags"].replace(", ", " or ")
    )


def _bad_literal(finding: Finding) -> Problem:
    return _not_among(finding, finding.path, finding.value, finding.context["expected"])


def _not_among(finding: Finding, path: Path, value: Any, expected: str) -> Problem:
    known = re.findall(r"'([^']*)'", expected)
    help_ = did_you_mean(value, known) if isinstance(value, str) else ""
    if not help_ and str(value) in known:
        help_ = f"put quotes around it: '{value}'"
    return Problem("GW105", path, f"{dotted(path)} must be {expected}", help_)


def _none_or_mapping(finding: Finding) -> Problem:
    help_ = _hint(finding) or did_you_mean(str(finding.value), ["none"]) if isinstance(finding.value, str) else ""
    return Problem("GW104", finding.path, f"{finding.place} must be `none` or a mapping, not {_kind(finding)}", help_)


def _wrong_type(finding: Finding, expected: str) -> Problem:
    message = f"{finding.place} must be {expected}, not {_kind(finding)}"
    quotes = expected == "text" and isinstance(finding.value, (int, float))
    return Problem("GW104", finding.path, message, "put quotes around it" if quotes else _hint(finding))


def _pattern(finding: Finding) -> Problem:
    return Problem("GW105", finding.path, f"{finding.place} {_described(finding)}")


def _bad_key(finding: Finding) -> Problem:
    name = _short(str(finding.path[-1]))
    return Problem("GW107", finding.path, f"the key '{name}' in {dotted(finding.path[:-1])} {_described(finding)}")


def _described(finding: Finding) -> str:
    pattern = str(finding.context.get("pattern", ""))
    found = next((text for start, text in _PATTERNS if pattern.startswith(start)), None)
    return found or finding.error["msg"].replace("String should", "must")


def _invalid(finding: Finding) -> Problem:
    message = str(finding.context.get("error", finding.error["msg"]))
    together = isinstance(finding.value, dict) and message.startswith("write ")
    return Problem("GW108" if together else "GW109", finding.path, f"{finding.place}: {message}")


def _too_short(finding: Finding) -> Problem:
    least = finding.context.get("min_length", 1)
    what = "must not be empty" if least < 2 else f"must have at least {least} entries"
    return Problem("GW105", finding.path, f"{finding.place} {what}")


def _hint(finding: Finding) -> str:
    hint = _HINTS.get(str(finding.path[-1])) if finding.path else None
    return hint.format(_short(finding.value)) if hint and isinstance(finding.value, str) else ""


def _kind(finding: Finding) -> str:
    """What the value is, in words: the value itself stays out, since it may be a misplaced secret."""
    kinds = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(finding.value), "nothing")


def _choice(fields: tuple[str, ...]) -> str:
    return f"known here: {', '.join(fields)}" if 0 < len(fields) <= 12 else ""


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


_WORDINGS: Final[Mapping[str, Callable[[Finding], Problem]]] = {
    "extra_forbidden": _unknown_field,
    "missing": _missing,
    "union_tag_not_found": _no_type,
    "union_tag_invalid": _bad_type,
    "literal_error": _bad_literal,
    "string_pattern_mismatch": _pattern,
    "value_error": _invalid,
    "too_short": _too_short,
}
