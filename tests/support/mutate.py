"""Documents gone wrong: random mutations of a document's values and of its bytes, the same for the same seed."""

import copy
import random
from collections.abc import Callable
from typing import Any, Final

import yaml

HOSTILE: Final = (
    b"\0", b"\xff", b"\xc3", b"\t", b"\r", b"\r\n", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"&a ", b"*a", b"*b", b"<<: ",
    b"!!python/object:os.system ", b"!x ", b"? ", b"- ", b": ", b"{", b"}", b"[", b"]", b'"', b"'", b"|", b">", b"#",
    b"---\n", b"...\n", b"%YAML 1.1\n", b"on", b"1:30", b"0x", b"9" * 40, b"1e999", b".inf", b".nan", b"~", b"null",
    b"{" * 80, b"[" * 80, b"${jndi}", b"%(x)s", b"%REQ(x)%", b"../..", b"*", b"**", b"{x=**}", b"(", b"(?=x)",
    b"a{999}",
)  # fmt: skip
VALUES: Final = (
    None, True, False, 0, 1, -1, 2**63, 2**70, 1.5, float("inf"), "", " ", "a", "*", "/", "//", "/..", "/%2e", "{x}",
    "**", "/{x}/{x}", "0s", "1s", "99999d", "1/second", "0/minute", "4294967296/day", "0%", "100%", "101%", "none",
    "GET", "(((", "a{1000}", "[a-z]+", "x" * 5000, "é", "\u202e", "127.0.0.1", "::1", "169.254.169.254", "0.0.0.0/0",
    "http://a", "https://*.a.b", [], {}, [[]], {"a": {}}, ["a", "a"], [None], {"exact": "/a"}, {"prefix": "/"},
)  # fmt: skip
MOST_EDITS: Final = 4

Edit = Callable[[random.Random, Any], None]


def mutated(chance: random.Random, texts: list[str]) -> bytes:
    """One document: a few edits of a whole one's values, then, half of the time, of its bytes."""
    text = chance.choice(texts)
    document = yaml.load(text, yaml.CSafeLoader)
    if chance.random() < 0.75:
        for _ in range(chance.randint(1, MOST_EDITS)):
            edit_value(chance, document, texts)
        text = yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=200)
    data = text.encode()
    if chance.random() < 0.5:
        for _ in range(chance.randint(1, MOST_EDITS)):
            data = edit_bytes(chance, data)
    return data


def edit_value(chance: random.Random, document: Any, texts: list[str]) -> None:
    """Changes one part, anywhere in it, in place."""
    places = list(containers(document))
    if places:
        chance.choice((drop, rename, replace, swap, double, graft))(chance, chance.choice(places), document, texts)


def containers(value: Any) -> list[Any]:
    """Every mapping and list that holds something, the outermost first."""
    found, waiting = [], [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list) and one:
            found.append(one)
            waiting.extend(one.values() if isinstance(one, dict) else one)
    return found


def key_in(chance: random.Random, place: Any) -> Any:
    return chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))


def drop(chance: random.Random, place: Any, _document: Any, _texts: list[str]) -> None:
    del place[key_in(chance, place)]


def rename(chance: random.Random, place: Any, _document: Any, _texts: list[str]) -> None:
    key = key_in(chance, place)
    if isinstance(place, dict):
        word = str(key)
        at = chance.randrange(len(word) + 1)
        place[chance.choice((word[:at] + "x" + word[at:], word[:at] + word[at + 1 :], word.upper(), "a-b", ""))] = (
            place.pop(key)
        )


def replace(chance: random.Random, place: Any, _document: Any, _texts: list[str]) -> None:
    place[key_in(chance, place)] = copy.deepcopy(chance.choice(VALUES))  # later edits must not change the value itself


def swap(chance: random.Random, place: Any, document: Any, _texts: list[str]) -> None:
    """A part of the document in place of another."""
    other = chance.choice(containers(document))
    if other is not place:
        taken = other[key_in(chance, other)]
        if place not in containers(taken):
            place[key_in(chance, place)] = taken


def double(chance: random.Random, place: Any, _document: Any, _texts: list[str]) -> None:
    taken = place[key_in(chance, place)]
    if isinstance(place, dict):
        place[f"copy{chance.randrange(3)}"] = taken
    else:
        place.append(taken)


def graft(chance: random.Random, place: Any, _document: Any, texts: list[str]) -> None:
    """A part of another document."""
    other = chance.choice(containers(yaml.load(chance.choice(texts), yaml.CSafeLoader)))
    key = key_in(chance, other)
    if isinstance(place, dict):
        place[key if isinstance(key, str) else "grafted"] = other[key]
    else:
        place.append(other[key])


def edit_bytes(chance: random.Random, data: bytes) -> bytes:
    at, length = chance.randrange(len(data) + 1), chance.randint(1, 12)
    match chance.randrange(5):
        case 0:
            return data[:at] + chance.choice(HOSTILE) + data[at:]
        case 1:
            return data[:at] + data[at + length :]
        case 2:
            return data[:at] + bytes(chance.randrange(256) for _ in range(length)) + data[at + length :]
        case 3:
            lines = data.splitlines(keepends=True)
            chance.shuffle(lines) if chance.random() < 0.1 else lines.insert(
                chance.randrange(len(lines) + 1), chance.choice(lines or [b""])
            )
            return b"".join(lines)
        case _:
            return data[:at]
