"""Path templates as regexes, where Envoy has no matcher for templates: they take the same paths."""

import re
from collections.abc import Iterator
from typing import Final

_CHARACTERS: Final = "-a-zA-Z0-9._~%!$&'()*+,;:@="
SEGMENT: Final = f"[{_CHARACTERS}]+"
REST: Final = f"[{_CHARACTERS}/]*"
_OPERATOR: Final = re.compile(r"\{([A-Za-z][A-Za-z0-9_]*)(?:=([^{}]*))?\}|\*\*|\*")


def template_pattern(template: str) -> str:
    """An RE2 pattern of the whole path, as Envoy makes one: `*` and `{name}` are one segment, `**` is the rest."""
    return "".join(pattern for _, pattern in _parts(template))


def template_groups(template: str) -> str:
    """The same pattern with each variable as a group of its name."""
    return "".join(f"(?P<{name}>{pattern})" if name else pattern for name, pattern in _parts(template))


def _parts(template: str) -> Iterator[tuple[str, str]]:
    """What the template consists of: the name of a variable, or "" of anything else, and its pattern."""
    end = 0
    for operator in _OPERATOR.finditer(template):
        inner = operator[2] if operator[2] is not None else "*" if operator[0][0] == "{" else operator[0]
        yield "", _literal(template[end : operator.start()])
        yield operator[1] or "", _globs(inner)
        end = operator.end()
    yield "", _literal(template[end:])


def _globs(inner: str) -> str:
    """What is inside a variable: segments that are literal, `*` or `**`."""
    globs = {"*": SEGMENT, "**": REST}
    return "/".join(globs.get(part) or _literal(part) for part in inner.split("/"))


def _literal(text: str) -> str:
    return "".join("\\" + character if character in "$()+.*?[]{}^|\\" else character for character in text)
