"""Roles: what a token of the control API may do. What no rule speaks of, only an admin may.

| role | may |
|---|---|
| `viewer` | read, and ask what becomes of a request |
| `registrar` | register, drain and deregister endpoints; see services |
| `author` | read, plan, and apply what belongs to the token's owner |
| `operator` | read, plan, apply, undo; rollouts, keys, endpoints, tokens for callers |
| `admin` | everything, the tokens of this API included |
"""

import re
from typing import Final

VIEWER, REGISTRAR, AUTHOR, OPERATOR, ADMIN = ROLES = ("viewer", "registrar", "author", "operator", "admin")
READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_READERS: Final = frozenset({VIEWER, AUTHOR, OPERATOR, ADMIN})
_ADMINS: Final = frozenset({ADMIN})
_ACCESS: Final = re.compile(r"/v1/access(/.*)?")
_SERVICES: Final = re.compile(r"/v1/services(/.*)?")
_CHANGES: Final = (
    (re.compile(r"/v1/explain"), _READERS),
    (re.compile(r"/v1/(plan|apply)"), frozenset({AUTHOR, OPERATOR, ADMIN})),
    (_SERVICES, frozenset({REGISTRAR, OPERATOR, ADMIN})),
    (re.compile(r"/v1/(undo|rollout/.*|keys|keys/.*|tokens)"), frozenset({OPERATOR, ADMIN})),
)


def may(role: str, method: str, path: str) -> bool:
    """Whether a token of `role` may ask for this, whatever the body says."""
    return role in _allowed(method, path)


def _allowed(method: str, path: str) -> frozenset[str]:
    if _ACCESS.fullmatch(path):
        return _ADMINS
    if method in READS:
        return _READERS | {REGISTRAR} if _SERVICES.fullmatch(path) else _READERS
    return next((roles for pattern, roles in _CHANGES if pattern.fullmatch(path)), _ADMINS)
