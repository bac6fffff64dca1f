"""What selects a stored answer (RFC 9111, section 4).

A digest names the place in the store. The parts themselves are kept in the entry and compared, so that nothing in the
store can be taken for an answer to another request.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from policy.cache.message import Request, joined

PREFIX: Final = b"cache:"

Key = tuple[str, ...]


def of_target(route: str, request: Request) -> Key:
    """The route by which it came, and the target as it was sent, query included.

    The method is not in it: only answers to GET are kept, and HEAD is answered from them.
    """
    return (route, request.scheme, request.authority.lower(), request.path)


def of_variant(target: Key, generation: str, names: Iterable[str], request: Request) -> Key:
    """The target for requests with these values of these headers. An absent header is not an empty one."""
    selected = ((name, joined(request.headers, name)) for name in names)
    parts = (part for name, value in selected for part in (name, "absent" if value is None else "=" + value))
    return (*target, generation, *parts)


def place(key: Key) -> bytes:
    """Lengths stand before the parts: no part can pose as two."""
    digest = hashlib.sha256()
    for part in key:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(raw))
        digest.update(raw)
    return PREFIX + digest.hexdigest().encode()
