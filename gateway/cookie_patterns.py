"""Cookies as regexes over the whole cookie header, where Envoy has no matcher for one of them (RFC 6265, 4.2.1).

A regex about one cookie must not see its neighbours. RE2 has no look-ahead, so that is proven from the pattern: nothing
in it may match `;`. A dot cannot here, and whatever else could is refused.
"""

import re
from typing import Final

import re2

from gateway.model import ValueMatch

ANY: Final = "[^;]"
_ATOM: Final = re.compile(
    r"\\(?:x\{[0-9a-fA-F]+\}|x[0-9a-fA-F]{2}|[pP](?:\{\^?\w+\}|\w)|[0-7]{1,3}|.)"
    r"|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]"
    r"|\{[0-9,]*\}"
    r"|.",
    re.DOTALL,
)
_ANCHORS: Final = frozenset({"^", "$", "\\A", "\\z"})


def whole_header(name: str, value: str) -> str:
    """A cookie of this name and a value of this pattern, anywhere among the others; the pattern must not take `;`."""
    return f"(.*;[ \\t]*)?{re2.escape(name)}=({value})([ \\t]*;.*)?"


def cookie_pattern(name: str, match: ValueMatch) -> str:
    """The cookie header of a request with such a cookie; not for `present: false`. Raises ValueError."""
    return whole_header(name, f"{ANY}*" if match.present is not None else _value_pattern(match))


def _value_pattern(match: ValueMatch) -> str:
    if match.regex is not None:
        return one_cookie(match.regex)
    text = next(one for one in (match.exact, match.prefix, match.suffix, match.contains) if one is not None)
    if ";" in text:
        raise ValueError("has ';', which no cookie's value holds")
    before = f"{ANY}*" if match.suffix is not None or match.contains is not None else ""
    after = f"{ANY}*" if match.prefix is not None or match.contains is not None else ""
    return f"{before}{re2.escape(text)}{after}"


def one_cookie(regex: str) -> str:
    """The regex such that it ends with the cookie. Raises ValueError for one that cannot be held to that."""
    atoms = [found[0] for found in _ATOM.finditer(_without_outer_anchors(regex))]
    return "".join(_confined(atom) for atom in atoms)


def _without_outer_anchors(regex: str) -> str:
    """The whole value is compared anyway. An even number of backslashes leaves the last `$` an anchor."""
    body = regex.removeprefix("^")
    escapes = len(body[:-1]) - len(body[:-1].rstrip("\\"))
    return body[:-1] if body.endswith("$") and escapes % 2 == 0 else body


def _confined(atom: str) -> str:
    if atom == ".":
        return ANY
    if atom in _ANCHORS:
        raise ValueError(f"has the anchor {atom} inside: the whole value is compared anyway")
    if atom in ("\\Q", "\\C"):
        raise ValueError(f"has {atom}, of which it cannot be told where it ends")
    if len(atom) > 1 and not atom.startswith("{") and _takes_semicolon(atom):
        raise ValueError(f"has {atom}, which could match the ';' after a cookie")
    if atom == ";":
        raise ValueError("has ';', which no cookie's value holds")
    return atom


def _takes_semicolon(atom: str) -> bool:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(atom, options).fullmatch(";") is not None
    except re2.error:
        return True
