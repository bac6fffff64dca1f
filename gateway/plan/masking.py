"""Values that a plan does not show: what somebody may have written although a document holds no secrets.

A plan ends up in pull requests, terminals and artefacts of builds, so a doubtful value is named and not shown.
"""

import re
from typing import Any, Final

from gateway.problems import Path

HIDDEN: Final = "(not shown)"

_FREE: Final = frozenset({"set", "add", "headers", "cookies", "query", "envoy", "metadata"})
"""Under these keys operators choose the names, and a name tells what the value is."""

_TELLING: Final = re.compile(r"auth|cookie|passw|secret|token|key|credential|private|session|signature", re.IGNORECASE)
_IN_URL: Final = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_OPEN: Final = frozenset({"name", "names", "present", "optional"})
"""Fields that are never a secret themselves."""


def masked(path: Path, value: Any) -> Any:
    """The value with every part hidden that its path, or its own keys, make doubtful."""
    if isinstance(value, dict):
        return {name: masked((*path, name), inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [masked((*path, index), inner) for index, inner in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    if doubtful(path):
        return HIDDEN
    return _IN_URL.sub(HIDDEN, value) if isinstance(value, str) else value


def doubtful(path: Path) -> bool:
    """Whether a value there may be a secret: a key set, or what an operator named like one."""
    if path[-2:] == ("jwks", "inline"):
        return True
    free = next((at for at, part in enumerate(path) if part in _FREE), None)
    if free is None or path[-1] in _OPEN:
        return False
    return any(isinstance(part, str) and _TELLING.search(part) for part in path[free + 1 :])
