"""What lies in the store: an answer, or a note which headers choose between several. Whoever reads checks the key.

A length, a head as JSON, the body. What cannot be read is no entry: the store may hold what an older version wrote.
"""

import json
import struct
from dataclasses import dataclass
from typing import Any, Final

from policy.cache.key import Key
from policy.cache.message import Headers

LENGTH: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer. `at`: when it came, in seconds since the epoch; `age`: how many seconds old it was then.

    From then on it is fresh for `lifetime` seconds. `for_all`: callers with credentials may have it too.
    """

    status: int
    headers: Headers
    body: bytes
    at: int
    age: int
    lifetime: int
    for_all: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """The answers to this target differ by these headers of the request.

    `generation` is in the keys of all of them: who removes the choice removes them all.
    """

    names: tuple[str, ...]
    generation: str


Entry = Stored | Choice


def encode(key: Key, entry: Entry) -> bytes:
    if isinstance(entry, Choice):
        head: dict[str, Any] = {"key": key, "choice": [entry.names, entry.generation]}
        body = b""
    else:
        times = (entry.status, entry.at, entry.age, entry.lifetime, entry.for_all)
        head, body = {"key": key, "stored": times, "headers": entry.headers}, entry.body
    text = json.dumps(head, separators=(",", ":")).encode()
    return LENGTH.pack(len(text)) + text + body


def decode(key: Key, raw: bytes) -> Entry | None:
    """None where it is not for this key, or not an entry at all."""
    try:
        (length,) = LENGTH.unpack_from(raw)
        head = json.loads(raw[LENGTH.size : LENGTH.size + length])
        return _read(head, raw[LENGTH.size + length :]) if tuple(head["key"]) == key else None
    except (ValueError, TypeError, KeyError, IndexError, struct.error):
        return None


def _read(head: dict[str, Any], body: bytes) -> Entry:
    if "choice" in head:
        names, generation = head["choice"]
        return Choice(tuple(names), generation)
    status, at, age, lifetime, for_all = head["stored"]
    headers = tuple((name, value) for name, value in head["headers"])
    return Stored(status, headers, body, at, age, lifetime, for_all)
