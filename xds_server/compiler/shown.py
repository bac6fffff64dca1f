"""Resources for people: messages as text without their secrets, and how two snapshots differ line by line."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import json_format, symbol_database
from google.protobuf.message import Message

from protos.rls_conf import RateLimitConfig
from xds_server.compiler.difference import Difference
from xds_server.resources import PREFIX, RATE_LIMITS, Resource, Snapshot

HIDDEN: Final = "(not shown)"

SECRET_FIELDS: Final = frozenset(
    {"private_key", "private_key_provider", "password", "session_ticket_keys", "generic_secret", "pkcs12"}
    | {"local_jwks", "users", "inline_matcher_secret"}
)
"""Fields of Envoy's API that hold secrets, or may (a key set has symmetric keys)."""

_TELLING: Final = re.compile(r"auth|cookie|passw|secret|token|key|credential|session|signature", re.IGNORECASE)
_VALUES: Final = frozenset({"value", "raw_value", "exact", "prefix", "suffix", "contains", "regex", "string_match"})


@dataclass(frozen=True, slots=True)
class Shown:
    """A resource that differs, as lines of a unified diff; `cut`: how many lines were left out."""

    type_url: str
    name: str
    lines: tuple[str, ...]
    cut: int = 0


def differences(before: Snapshot, after: Snapshot, found: Difference, most: int = 2_000) -> Iterator[Shown]:
    """Each resource that is not the same on both sides, with `most` lines of all together."""
    left = most
    for one in found.types:
        for name in sorted((*one.added, *one.changed, *one.removed)):
            old, new = (side.types[one.type_url].resources.get(name) for side in (before, after))
            lines = list(difflib.unified_diff(text(old), text(new), "before", "after", lineterm="", n=3))[2:]
            yield Shown(one.type_url, name, tuple(lines[:left]), max(0, len(lines) - left))
            left = max(0, left - len(lines))


def text(resource: Resource | None) -> list[str]:
    """A resource as JSON by protobuf's rules, its own field names, without secrets; nothing for none."""
    if resource is None:
        return []
    found = json_format.MessageToDict(message_of(resource), preserving_proto_field_name=True)
    return json.dumps(without_secrets(found), indent=1, ensure_ascii=False, sort_keys=True).splitlines()


def message_of(resource: Resource) -> Message:
    if resource.type_url == RATE_LIMITS:  # it is in a pool of its own
        kind: type[Message] = RateLimitConfig
    else:
        kind = symbol_database.Default().GetSymbol(resource.type_url.removeprefix(PREFIX))
    return kind.FromString(resource.data)


def without_secrets(value: Any) -> Any:
    """The JSON of a message; what may be a secret is named and not shown."""
    if isinstance(value, list):
        return [without_secrets(one) for one in value]
    if not isinstance(value, dict):
        return value
    named = value.get("key", value.get("name"))
    telling = isinstance(named, str) and _TELLING.search(named) is not None
    return {
        field: HIDDEN if field in SECRET_FIELDS or (telling and field in _VALUES) else without_secrets(inner)
        for field, inner in value.items()
    }


def as_json(found: Iterable[Shown]) -> list[dict[str, Any]]:
    """`type name lines cut` of each; types by their short names."""
    return [
        {"type": one.type_url.rpartition(".")[2], "name": one.name, "lines": list(one.lines), "cut": one.cut}
        for one in found
    ]
