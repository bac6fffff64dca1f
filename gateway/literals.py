"""What every path that a match takes begins with: the ground of route tables and of scopes.

Told of a path's key, which is the path (without its query) and one more slash: then `/foo/` begins the keys of `/foo`
and of all below it, and not that of `/foobar`.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Final

import re2

from gateway.model import Match

LONGEST: Final = 256  # of a regex's literal, in bytes


@dataclass(frozen=True, slots=True)
class Literal:
    """`text`: every key that matches begins with it. `whole`: it is the only key that matches."""

    text: str
    whole: bool = False

    @property
    def first_segment(self) -> str | None:
        """The first segment of every path that matches (`""` of `/` itself); None where they may have several."""
        found, slash, _ = self.text[1:].partition("/")
        return found if slash else None


ANYTHING: Final = Literal("")


def literal_of(match: Match) -> Literal:
    path = match.where
    if path.exact is not None:
        return exact(path.exact)
    if path.prefix is not None:
        return prefix(path.prefix)
    return template(path.template) if path.template is not None else regex(path.regex or "")


def exact(path: str) -> Literal:
    return Literal(path + "/", whole=True)


def prefix(path: str) -> Literal:
    return Literal(path.rstrip("/") + "/")


def template(text: str) -> Literal:
    """All before the first operator. Without an operator it is one path."""
    end = min((index for index in (text.find("{"), text.find("*")) if index >= 0), default=-1)
    return exact(text) if end < 0 else Literal(text[:end])


@lru_cache(maxsize=200_000)
def regex(pattern: str) -> Literal:
    """By RE2's own analysis: what lies between the least and the greatest string that match begins as both do."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # as Envoy reads it
    options.log_errors = False
    try:
        compiled = re2.compile(pattern.encode(), options)
        least, greatest = compiled.possiblematchrange(LONGEST)
    except re2.error:  # no regex, or none that says how it begins
        return ANYTHING
    below = greatest[:-1] + bytes([max(1, 1, *greatest[-1:]) - 1])
    if least.startswith(below) and compiled.fullmatch(greatest) is None:  # `/a0` after all of `/a/.*`: none is it
        greatest = below + b"\xff"
    pairs = zip(least, greatest, strict=False)
    shared = bytes(one for one, _ in takewhile(lambda pair: pair[0] == pair[1] and pair[0] < 127, pairs)).decode()
    whole = least == greatest == shared.encode()
    return Literal(shared + ("/" if whole else ""), whole)
