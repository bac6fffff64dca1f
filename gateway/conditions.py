"""The parts of a match as tests of a request: path, methods, headers, cookies, query, each as Envoy compares it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import re2

from gateway.cookie_patterns import cookie_pattern
from gateway.model import Match, PathMatch, ValueMatch
from gateway.normal import Target
from gateway.path_patterns import template_pattern

JOINED: Final = frozenset(
    {"accept", "accept-encoding", "access-control-request-headers", "access-control-request-method", "authorization"}
    | {"cache-control", "content-encoding", "content-type", "expect", "grpc-timeout", "if-match", "if-modified-since"}
    | {"if-none-match", "if-range", "origin", "pragma", "referer", "user-agent", "via", "x-forwarded-for"}
    | {"x-forwarded-host"}
)
"""Headers whose lines Envoy joins by a comma. Of any other each line is compared, and one that fits is enough."""

PathTest = Callable[[str], bool]
ValueTest = Callable[[str], bool]


class View:
    """A request as matches see it, its query read only when somebody asks."""

    __slots__ = ("_query", "headers", "method", "target")

    def __init__(self, method: str, target: Target, headers: Mapping[str, Sequence[str]]) -> None:
        self.method, self.target, self.headers = method, target, headers
        self._query: dict[str, str] | None = None

    @property
    def query(self) -> dict[str, str]:
        if self._query is None:
            self._query = parameters(self.target.query)
        return self._query


@dataclass(frozen=True, slots=True)
class Condition:
    """`what`: the part of the match that it is, as a reader of an explanation knows it."""

    what: str
    holds: Callable[[View], bool]


def header_lines(headers: Iterable[tuple[str, str]], host: str) -> dict[str, list[str]]:
    """The lines of each header by its name in lower case; `host` is what is left of it after normalisation."""
    found: dict[str, list[str]] = {"host": [host]}
    for written, value in headers:
        name, text = written.lower(), value.strip(" \t")
        if name == "host":
            continue
        lines = found.setdefault(name, [])
        if lines and name in JOINED:
            lines[0] = ",".join(filter(None, (lines[0], text)))
        else:
            lines.append(text)
    return found


def parameters(query: str | None) -> dict[str, str]:
    """Envoy decodes nothing here, and the first of several equal names counts."""
    found: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        found.setdefault(name, value)
    return found


def path_test(path: PathMatch) -> PathTest:
    if path.exact is not None:
        return path.exact.__eq__
    if path.regex is not None:
        return full_match(path.regex)
    if path.template is not None:
        return full_match(template_pattern(path.template))
    prefix = (path.prefix or "/").rstrip("/")
    below = prefix + "/"
    return lambda text: text == prefix or text.startswith(below)


def conditions(match: Match) -> Iterator[Condition]:
    """All but the path."""
    if match.methods:
        methods = frozenset(match.methods)
        yield Condition("method", lambda view: view.method in methods)
    if match.grpc is not None:
        yield Condition("grpc", is_grpc)
    for name, value in match.headers.items():
        yield Condition(f"header {name}", header_test(name, value))
    for name, value in match.cookies.items():
        yield Condition(f"cookie {name}", cookie_test(name, value))
    for name, value in match.query.items():
        yield Condition(f"query {name}", query_test(name, value))


def preflight_conditions(methods: frozenset[str] = frozenset()) -> tuple[Condition, ...]:
    """What makes a request a CORS preflight that asks for one of `methods`, or for any (Fetch 4.8)."""
    asked = "access-control-request-method"
    return (
        Condition("method", lambda view: view.method == "OPTIONS"),
        Condition("header origin", lambda view: "origin" in view.headers),
        Condition(
            f"header {asked}",
            lambda view: any(not methods or line in methods for line in view.headers.get(asked, ())),
        ),
    )


def is_grpc(view: View) -> bool:
    return any(line.startswith("application/grpc") for line in view.headers.get("content-type", ()))


def header_test(name: str, value: ValueMatch) -> Callable[[View], bool]:
    """An optional header is compared as if an absent one were empty, so an empty one fits too."""
    if value.present is not None:
        return lambda view: (name in view.headers) is value.present
    fits = value_test(value)
    if value.optional:
        return lambda view: any(not line or fits(line) for line in view.headers.get(name, ("",)))
    return lambda view: any(map(fits, view.headers.get(name, ())))


def query_test(name: str, value: ValueMatch) -> Callable[[View], bool]:
    if value.present is not None:
        return lambda view: (name in view.query) is value.present
    fits, optional = value_test(value), value.optional

    def holds(view: View) -> bool:
        found = view.query.get(name)
        return optional if found is None else fits(found)

    return holds


def cookie_test(name: str, value: ValueMatch) -> Callable[[View], bool]:
    there = full_match(cookie_pattern(name, ValueMatch.model_construct(present=True)))
    if value.present is False:
        return lambda view: not any(map(there, view.headers.get("cookie", ("",))))
    fits, optional = full_match(cookie_pattern(name, value)), value.optional

    def holds(view: View) -> bool:
        lines = view.headers.get("cookie", ("",))
        return any(map(fits, lines)) or (optional and not any(map(there, lines)))

    return holds


def value_test(value: ValueMatch) -> ValueTest:
    if value.exact is not None:
        return value.exact.__eq__
    if value.regex is not None:
        return full_match(value.regex)
    if value.prefix is not None:
        prefix = value.prefix
        return lambda text: text.startswith(prefix)
    if value.suffix is not None:
        suffix = value.suffix
        return lambda text: text.endswith(suffix)
    contained = value.contains or ""
    return lambda text: contained in text


def full_match(pattern: str) -> Callable[[str], bool]:
    """A user's regex, by RE2 over bytes and the whole value, as Envoy has it. Raises re2.error at its first use."""
    return lambda text: compiled(pattern).fullmatch(text.encode("utf-8", "surrogateescape")) is not None


@lru_cache(maxsize=65_536)
def compiled(pattern: str) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    return re2.compile(pattern.encode(), options)
