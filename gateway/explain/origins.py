"""Where a browser says that a page is from: what CORS and CSRF make of it."""

import re

from gateway.model import Cors, Csrf

_URL = re.compile(r"[a-z]+://([^/?#]+)")
_REFERER = re.compile(r"[a-z]+://[A-Za-z0-9._-]+(:\d{1,5})?([/?][^#]*)?|/[^#]*")
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


def source(origin: str | None, referer: str | None) -> str:
    """The page's host and port by its Origin, else by its Referer; "" of neither. No URL is its own host, as in Envoy.

    Envoy takes a Referer that is not a right URL off the request before anybody sees it; an Origin it leaves.
    """
    told = origin or (referer if referer and _REFERER.fullmatch(referer) else "")
    found = _URL.match(told)
    return found[1] if found is not None else told
