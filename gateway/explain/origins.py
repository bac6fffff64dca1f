"""Where a browser says that a page is from: what CORS and CSRF make of it."""

import re

from gateway.model import Cors, Csrf

_URL = re.compile(r"[a-z]+://([A-Za-z0-9._-]+(?::\d{0,5})?)(?:[/?#]|$)")
_LABELS = r"[a-z0-9-]+(\.[a-z0-9-]+)*"


def allows(cors: Cors, origin: str) -> bool:
    """`*` alone is every origin; `https://*.example.com` has one label or more in place of the star."""
    return any(pattern == "*" or fits(pattern, origin) for pattern in cors.allow_origins)


def trusts(csrf: Csrf, source: str, own: set[str]) -> bool:
    """`source`, `own`: hosts with their ports, since no scheme is looked at."""
    return source in own or any(fits(pattern, source) for pattern in csrf.additional_origins)


def fits(pattern: str, text: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == text
    return re.fullmatch(re.escape(before) + _LABELS + re.escape(after), text) is not None


def host_of(origin: str) -> str:
    """Host and port of an Origin or a Referer; a text that is no URL is its own host, as in Envoy."""
    found = _URL.match(origin)
    return found[1] if found is not None else origin
