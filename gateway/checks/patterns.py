"""Patterns: regexes that Envoy's RE2 takes, templates, networks, and paths that can match at all.

Regexes are compiled by RE2 itself, in the way Envoy does it; Python's `re` takes other patterns, some of them slowly.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

import re2

from gateway.checks.addresses import cidr_fault
from gateway.checks.routes import written
from gateway.checks.scope import Scope
from gateway.checks.templates import fault
from gateway.cookie_patterns import cookie_pattern
from gateway.model import AuthorizationRule, Match, PathMatch, ValueMatch
from gateway.path_patterns import template_pattern
from gateway.problems import Path, Problem

LARGEST_PROGRAM: Final = 100
"""Envoy's `re2.max_program_size.error_level` by default: it refuses a larger one."""

_NEVER_SENT: Final = re.compile(r"//|/\.{1,2}(/|$)|%2[fF]|%5[cC]|[^\x21-\x7e]|\\")
"""What Envoy has normalised or refused before it looks for a route."""


def problems(scope: Scope) -> Iterator[Problem]:
    for route in scope.routes:
        yield from _match(route.match, (*route.path, "match"))
    for path, level in scope.levels():
        authorization = getattr(level, "authorization", None)
        for index, rule in enumerate(authorization.rules if authorization else ()):
            yield from _rule(rule, (*path, "authorization", "rules", index))
    floor = scope.gateway.floor.authorization
    for index, rule in enumerate(floor.rules if floor else ()):
        yield from _rule(rule, ("floor", "authorization", "rules", index))


def _rule(rule: AuthorizationRule, path: Path) -> Iterator[Problem]:
    for position, cidr in enumerate(rule.cidrs):
        wrong = cidr_fault(cidr)
        if wrong:
            yield Problem("GW223", (*path, "cidrs", position), wrong)
    for position, match in enumerate(rule.paths):
        yield from _path(match, (*path, "paths", position))
        if match.template is not None and not fault(match.template):
            yield from regex_problems(template_pattern(match.template), (*path, "paths", position, "template"))


def _match(match: Match, path: Path) -> Iterator[Problem]:
    if match.path is not None:
        yield from _path(match.path, (*path, "path"))
    yield from _values(match.headers, (*path, "headers"))
    yield from _values(match.query, (*path, "query"))
    yield from _values(match.cookies, (*path, "cookies"))
    yield from _cookies(match.cookies, (*path, "cookies"))


def _cookies(cookies: Mapping[str, ValueMatch], path: Path) -> Iterator[Problem]:
    """Each is compared within the whole cookie header, so the pattern may not reach over into the next one."""
    for name, match in cookies.items():
        if match.regex is not None and regex_fault(match.regex):
            continue
        place = (*path, name, "regex") if match.regex is not None else (*path, name)
        try:
            pattern = cookie_pattern(name, match)
        except ValueError as error:
            yield Problem("GW252", place, f"the cookie '{name}' {error}", "write what the value may hold, as [^;] does")
        else:
            yield from regex_problems(pattern, place)


def _path(match: PathMatch, path: Path) -> Iterator[Problem]:
    kind, text = written(match)
    place = (*path, kind)
    if kind == "regex":
        yield from regex_problems(text, place)
    elif kind == "template":
        wrong = fault(text)
        if wrong:
            yield Problem("GW222", place, f"the template {wrong}")
    elif _NEVER_SENT.search(text):
        message = "no request has such a path: paths are normalised, and only plain ASCII is let through"
        yield Problem("GW225", place, message, "write the path as it is after normalisation", "warning")


def _values(matches: Mapping[str, ValueMatch], path: Path) -> Iterator[Problem]:
    for name, match in matches.items():
        if match.regex is not None:
            yield from regex_problems(match.regex, (*path, name, "regex"))
        if match.present is False and match.optional:
            yield Problem("GW226", (*path, name), "`present: false` and `optional: true` together match everything")


def regex_problems(pattern: str, path: Path) -> Iterator[Problem]:
    wrong = regex_fault(pattern)
    if wrong:
        yield Problem("GW221", path, f"the regex {wrong}", "the syntax is RE2's: no look-around, no back references")


@lru_cache(maxsize=10_000)
def regex_fault(pattern: str) -> str | None:
    """What Envoy would say against the regex; None if it takes it."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    try:
        compiled = re2.compile(pattern.encode(), options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        return f"is not valid: {reason.decode('utf-8', 'replace') if isinstance(reason, bytes) else reason}"
    if compiled.programsize > LARGEST_PROGRAM:
        return f"is too large: {compiled.programsize} RE2 instructions, Envoy takes {LARGEST_PROGRAM}"
    return None
