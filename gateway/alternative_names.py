"""Names in certificates (RFC 5280, section 4.2.1.6), and whether one is the name that a document asks for."""

import re2

from gateway.model import SubjectAltName


def fits(wanted: SubjectAltName, kind: str, value: str) -> bool:
    """`kind`: `uri`, `dns` or `email`. Host names are compared without case (RFC 4343), everything else as it is."""
    match = getattr(wanted, kind, None)
    if match is None:
        return False
    if match.regex is not None:
        return re2.fullmatch(match.regex, value) is not None
    text = match.exact or match.prefix or match.suffix or ""
    if kind == "dns":
        text, value = text.lower(), value.lower()
    if match.exact is not None:
        return bool(value == text)
    return value.startswith(text) if match.prefix is not None else value.endswith(text)
