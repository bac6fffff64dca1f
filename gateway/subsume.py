"""Whether one match takes everything that another takes, as far as that can be proven; and whether both can take one.

`covers` never says yes without proof: what it cannot see through (two different regexes) it leaves alone. `meet` is the
other way round: it says yes only where a common request can be named.
"""

from collections.abc import Iterator, Mapping

from gateway.checks.routes import literal, written
from gateway.checks.templates import shape
from gateway.conditions import path_test, value_test
from gateway.model import Match, PathMatch, ValueMatch

Values = Mapping[str, ValueMatch]
GRPC = "application/grpc"


def covers(wide: Match, narrow: Match) -> bool:
    """Every request that `narrow` takes is one that `wide` takes."""
    return conditions_cover(wide, narrow) and path_covers(wide.where, narrow.where)


# -------------------------------------------------------------------------------------------------------------- paths
def path_covers(wide: PathMatch, narrow: PathMatch) -> bool:
    kind, text = written(wide)
    other, narrow_text = written(narrow)
    if other == "exact":
        return path_test(wide)(narrow_text)
    if kind == "prefix":
        begins = beginning(other, narrow_text) + "/"
        return begins.startswith(text.rstrip("/") + "/")
    if kind == "template" and other == "template":
        return segments_cover(shape(text).split("/"), shape(narrow_text).split("/"))
    return kind == other == "regex" and text == narrow_text


def beginning(kind: str, text: str) -> str:
    """The whole segments that every path begins with that matches, without a slash at the end."""
    if kind == "prefix":
        return text.rstrip("/")
    return literal(kind, text).rpartition("/")[0]


def ancestors(path: str) -> Iterator[str]:
    """`/a/b` -> ``, `/a`, `/a/b`."""
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)
    yield path


def segments_cover(wide: list[str], narrow: list[str]) -> bool:
    """Of templates by their shape: `*` is any one segment, `**` at the end all that follows."""
    if wide[-1] == "**" and len(narrow) >= len(wide):
        wide = wide[:-1]
        narrow = narrow[: len(wide)]
    if len(wide) != len(narrow):
        return False
    return all(w == n or (w == "*" and n and "**" not in n) for w, n in zip(wide, narrow, strict=True))


def segments_meet(one: list[str], other: list[str]) -> bool:
    for a, b in zip(one, other, strict=False):
        if "**" in (a, b):
            return True
        if "**" in a or "**" in b or not segment_meets(a, b):
            return False
    return len(one) == len(other)


def segment_meets(one: str, other: str) -> bool:
    if "*" not in one:
        one, other = other, one
    if "*" not in one:
        return one == other
    before, _, after = one.partition("*")
    if "*" not in other:
        return len(other) > len(before + after) and other.startswith(before) and other.endswith(after)
    first, _, last = other.partition("*")
    return (before.startswith(first) or first.startswith(before)) and (after.endswith(last) or last.endswith(after))


def paths_meet(one: PathMatch, other: PathMatch) -> bool:
    kind, text = written(one)
    other_kind, other_text = written(other)
    if kind == other_kind == "template":
        return segments_meet(shape(text).split("/"), shape(other_text).split("/"))
    return path_covers(one, other) or path_covers(other, one)


# --------------------------------------------------------------------------------------------------------- conditions
def conditions_cover(wide: Match, narrow: Match) -> bool:
    if wide.methods and not (narrow.methods and set(narrow.methods) <= set(wide.methods)):
        return False
    if wide.grpc is not None and narrow.grpc is None and not says_grpc(narrow):
        return False
    return (
        values_cover(wide.headers, narrow.headers)
        and values_cover(wide.cookies, narrow.cookies)
        and values_cover(wide.query, narrow.query)
    )


def says_grpc(match: Match) -> bool:
    value = match.headers.get("content-type")
    return value is not None and not value.optional and (value.exact or value.prefix or "").startswith(GRPC)


def values_cover(wide: Values, narrow: Values) -> bool:
    return all(name in narrow and value_covers(value, narrow[name]) for name, value in wide.items())


def value_covers(wide: ValueMatch, narrow: ValueMatch) -> bool:
    """Whatever fits `narrow` fits `wide`, an absent value included."""
    if wide.present is not None:
        return wide.present is narrow.present or (wide.present and narrow.present is None and not narrow.optional)
    if narrow.present is not None:
        return wide.optional and not narrow.present
    return (wide.optional or not narrow.optional) and texts_cover(wide, narrow)


def texts_cover(wide: ValueMatch, narrow: ValueMatch) -> bool:
    if narrow.exact is not None:
        return value_test(wide)(narrow.exact)
    if wide.prefix is not None:
        return narrow.prefix is not None and narrow.prefix.startswith(wide.prefix)
    if wide.suffix is not None:
        return narrow.suffix is not None and narrow.suffix.endswith(wide.suffix)
    if wide.contains is not None:
        part = narrow.prefix or narrow.suffix or narrow.contains
        return part is not None and wide.contains in part
    return wide.regex is not None and wide.regex == narrow.regex


def conditions_meet(one: Match, other: Match) -> bool:
    """Some request fits both. Names that only one of them looks at can have any value."""
    if one.methods and other.methods and not set(one.methods) & set(other.methods):
        return False
    return (
        values_meet(one.headers, other.headers)
        and values_meet(one.cookies, other.cookies)
        and values_meet(one.query, other.query)
    )


def values_meet(one: Values, other: Values) -> bool:
    """For headers too, although a request may have several of one name."""
    return all(value_meets(one[name], other[name]) for name in one.keys() & other.keys())


def value_meets(one: ValueMatch, other: ValueMatch) -> bool:
    return one == other or value_covers(one, other) or value_covers(other, one) or (one.optional and other.optional)
