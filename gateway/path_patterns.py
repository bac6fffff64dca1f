"""Path templates as regexes, where Envoy has no matcher for templates: they take the same paths."""

import re
from typing import Final

_CHARACTERS: Final = "-a-zA-Z0-9._~%!$&'()*+,;:@="
SEGMENT: Final = f"[{_CHARACTERS}]+"
REST: Final = f"[{_CHARACTERS}/]*"
_OPERATOR: Final = re.compile(r"\{[A-Za-z][A-Za-z0-9_]*(?:=([^{}]*))?\}|\*\*|\*")


def template_pattern(template: str) -> str:
    """An RE2 pattern of the whole path, as Envoy makes one: `*` and `{name}` are one segment, `**` is the rest."""
    found, end = [], 0
    for operator in _OPERATOR.finditer(template):
        inner = operator[1] if operator[1] is not None else "*" if operator[0][0] == "{" else operator[0]
        found += [_literal(template[end : operator.start()]), _globs(inner)]
        end = operator.end()
    return "".join((*found, _literal(template[end:])))


def _globs(inner: str) -> str:
    """What is inside a variable: segments that are literal, `*` or `**`."""
    globs = {"*": SEGMENT, "**": REST}
    return "/".join(globs.get(part) or _literal(part) for part in inner.split("/"))


def _literal(text: str) -> str:
    return "".join("\\" + character if character in "$()+.*?[]{}^|\\" else character for character in text)
