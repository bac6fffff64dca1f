"""What a shared cache may keep, for how long, and for whom: RFC 9111 as pure functions. Times are whole seconds.

Stricter than the RFC wherever one caller's answer could reach another: cookies and keys count as credentials like
`Authorization`, an answer that sets a cookie is never kept, and what was kept without a word that it is for all is not
given to a caller with credentials either.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from gateway.caching import Terms
from policy.cache.message import Headers, Request, Response, joined

KEPT: Final = frozenset({200, 203, 204, 301, 308})
"""Of what RFC 9110 calls heuristically cacheable: no part of a whole (206), and no error. An error that is kept goes on
after its cause is gone, and Envoy would write its own body over it (`xds_server/compiler/replies.py`).
"""
CREDENTIALS: Final = ("authorization", "proxy-authorization", "cookie", "x-api-key", "x-forwarded-client-cert")
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "CONNECT"})
PASSED_BY: Final = ("range", "if-range", "if-match", "if-unmodified-since", "upgrade")
"""Headers of requests that want something else than a whole answer."""
DROPPED: Final = frozenset(
    {"age", "connection", "content-length", "keep-alive", "proxy-authenticate", "proxy-authentication-info"}
    | {"proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "x-request-id"}
)
"""Headers of one connection, one request, or written anew each time."""
LONGEST: Final = 2**31
_DIRECTIVE: Final = re.compile(r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,;]*))?""")

Directives = Mapping[str, str]


# ------------------------------------------------------------------------------------------------------------- requests
def looks_up(request: Request) -> bool:
    """Whether an answer from the cache would be an answer to this request at all."""
    if request.method not in {"GET", "HEAD"} or request.has_body:
        return False
    if any(joined(request.headers, name) is not None for name in PASSED_BY):
        return False
    return "no-store" not in directives(request.headers)


def accepts(request: Request, age: int, lifetime: int, *, for_all: bool) -> bool:
    """Whether the request takes a fresh answer of this age. `for_all`: the answer says that it is for everybody."""
    asked = directives(request.headers)
    if "no-cache" in asked or (not asked and "no-cache" in (joined(request.headers, "pragma") or "").lower()):
        return False
    if "max-age" in asked and age > (seconds(asked["max-age"]) or 0):
        return False
    if "min-fresh" in asked and lifetime - age < (seconds(asked["min-fresh"]) or 0):
        return False
    return for_all or not has_credentials(request)


def has_credentials(request: Request) -> bool:
    return any(name in CREDENTIALS for name, _ in request.headers)


def invalidates(request: Request, response: Response) -> bool:
    """Whether what is kept for this target may be wrong now (section 4.4): a change, and it was not refused."""
    return may_change(request) and 200 <= response.status < 400


def may_change(request: Request) -> bool:
    return request.method not in SAFE


# ------------------------------------------------------------------------------------------------------------ responses
def lifetime(terms: Terms, request: Request, response: Response, now: int) -> int:
    """How long the answer is fresh from now on; 0 where it must not be kept.

    The gateway's `ttl` is the most, what the answer says of a shared cache may be less (section 4.2.1).
    """
    said = directives(response.headers)
    if request.method != "GET" or response.status not in KEPT or not _may_keep(said, response):
        return 0
    if (terms.guarded or has_credentials(request)) and not is_for_all(response):
        return 0
    told = _told(said, response, now)
    longest = terms.ttl // 1000 if terms.ttl >= 1000 else 1
    return longest if told is None else max(0, min(longest, told - age_of(response)))


def _may_keep(said: Directives, response: Response) -> bool:
    """`no-cache` wants a question to the upstream each time, which this cache does not ask."""
    if {"no-store", "private", "no-cache"} & said.keys() or joined(response.headers, "set-cookie") is not None:
        return False
    return "*" not in varies(response)


def is_for_all(response: Response) -> bool:
    """Section 3.5: with one of these words an answer to a caller with credentials is for everybody who may ask."""
    return bool({"public", "s-maxage", "must-revalidate"} & directives(response.headers).keys())


def _told(said: Directives, response: Response, now: int) -> int | None:
    """What the answer itself says; None where it says nothing, 0 where nobody can read it."""
    for word in ("s-maxage", "max-age"):
        if word in said:
            return seconds(said[word]) or 0
    expires = joined(response.headers, "expires")
    if expires is None:
        return None
    end, start = instant(expires), instant(joined(response.headers, "date") or "")
    return max(0, end - (now if start is None else start)) if end is not None else 0


def varies(response: Response) -> tuple[str, ...]:
    """The headers of the request that chose this answer, in order. What is encoded depends on what was accepted."""
    names = {name.strip().lower() for name in (joined(response.headers, "vary") or "").split(",")}
    if joined(response.headers, "content-encoding") is not None:
        names.add("accept-encoding")
    return tuple(sorted(names - {""}))


def age_of(response: Response) -> int:
    return seconds((joined(response.headers, "age") or "0").split(",")[0]) or 0


def kept_headers(headers: Headers) -> Headers:
    """Without those of one connection, those that `Connection` names included."""
    named = {name.strip().lower() for name in (joined(headers, "connection") or "").split(",")}
    return tuple(line for line in headers if line[0] not in DROPPED | named and not line[0].startswith("x-envoy-"))


def is_whole(response: Response, size: int) -> bool:
    """Whether a body of this size is all of it."""
    told = joined(response.headers, "content-length")
    return told is None or told == str(size)


# ---------------------------------------------------------------------------------------------------------- conditions
def not_modified(request: Request, response: Response) -> bool:
    """Whether 304 answers the request (RFC 9110, section 13.2.2): the tags decide, without any the dates."""
    tags = joined(request.headers, "if-none-match")
    if tags is not None:
        return tags.strip() == "*" or _tagged(tags, joined(response.headers, "etag"))
    since = instant(joined(request.headers, "if-modified-since") or "")
    changed = instant(joined(response.headers, "last-modified") or "")
    return since is not None and changed is not None and changed <= since


def _tagged(tags: str, own: str | None) -> bool:
    """Weak comparison: `W/` does not count."""
    return own is not None and own.strip().removeprefix("W/") in re.findall(r'"[^"]*"', tags)


# ------------------------------------------------------------------------------------------------------------- parsing
def directives(headers: Headers) -> Directives:
    """`Cache-Control`, names in lower case. Of a word that is there twice the first counts."""
    found: dict[str, str] = {}
    for name, value in _pairs(joined(headers, "cache-control") or ""):
        found.setdefault(name, value)
    return found


def _pairs(text: str) -> Iterable[tuple[str, str]]:
    return ((one[1].lower(), (one[2] or "").strip('"')) for one in _DIRECTIVE.finditer(text))


def seconds(text: str) -> int | None:
    """RFC 9111, section 1.2.2. None for what is no number; what is longer than anybody means is cut."""
    return min(int(text), LONGEST) if text.isascii() and text.isdecimal() and len(text) <= 20 else None


def instant(text: str) -> int | None:
    """An HTTP date as seconds since the epoch."""
    try:
        found = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
