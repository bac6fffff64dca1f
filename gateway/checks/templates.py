"""Path templates as Envoy's uri_template reads them (`envoy.extensions.path.match.uri_template.v3`).

A segment is a literal, or holds one operator: `*` (one segment), `**` (the rest), `{name}`, `{name=*}`, `{name=**}` or
`{name=a/*/b}`. Text may stand before and after an operator. After `**` no other operator may follow.
"""

import re
from typing import Final

MOST_VARIABLES: Final = 5
_LITERAL: Final = r"[A-Za-z0-9\-._~%!$&'()+,;:@=]"
_NAME: Final = r"[A-Za-z][A-Za-z0-9_]{0,15}"
_INNER: Final = rf"(?:\*\*|\*|{_LITERAL.replace('=', '')}+)(?:/(?:\*\*|\*|{_LITERAL.replace('=', '')}+))*"
_OPERATOR: Final = re.compile(rf"\*\*|\*|\{{({_NAME})(?:=({_INNER}))?\}}")
_SEGMENT: Final = re.compile(rf"{_LITERAL}*(?:(?:\*\*|\*|\{{[^{{}}]*\}}){_LITERAL}*)?")
_SPLIT: Final = re.compile(r"/(?![^{]*\})")


def fault(template: str) -> str | None:
    """What is wrong with a template that begins with `/`; None if nothing is."""
    segments = _SPLIT.split(template[1:])
    if "" in segments[:-1]:
        return "has an empty segment"
    bad = next((segment for segment in segments if not _SEGMENT.fullmatch(segment)), None)
    if bad is not None:
        return f"has the segment '{bad}', which is neither text nor holds one of *, **, {{name}} or {{name=**}}"
    return _fault_of_operators([found for segment in segments for found in _operators(segment)])


def shape(template: str) -> str:
    """The template without names: two of one shape match the same paths."""
    return _OPERATOR.sub(lambda found: found[2] or ("*" if found[1] else found[0]), template)


def variables(template: str) -> tuple[str, ...]:
    """The names that are written in a template, in order."""
    return tuple(found[1] for found in _OPERATOR.finditer(template) if found[1])


def _operators(segment: str) -> list[str]:
    return re.findall(r"\{[^{}]*\}|\*\*|\*", segment)


def _fault_of_operators(operators: list[str]) -> str | None:
    names: list[str] = []
    rest = False
    for operator in operators:
        found = _OPERATOR.fullmatch(operator)
        if found is None:
            return f"has {operator}: write {{name}} or {{name=**}}, the name of at most 16 letters, digits and _"
        if rest:
            return f"has {operator} after **, which takes all the rest"
        inner = found[2] or ("*" if found[1] else operator)
        rest = "**" in inner
        if (rest and inner.index("**") != inner.rindex("*") - 1) or ("*" in inner.split("**", 1)[-1] and rest):
            return f"has an operator after ** in {operator}"
        names += [found[1]] if found[1] else []
    return _fault_of_names(names)


def _fault_of_names(names: list[str]) -> str | None:
    double = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if double is not None:
        return f"has the variable '{double}' twice"
    return f"has more than {MOST_VARIABLES} variables" if len(names) > MOST_VARIABLES else None
