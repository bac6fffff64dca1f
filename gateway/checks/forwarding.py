"""What is asked of requests that are sent on: rewrites that can be carried out, and only where something is sent on."""

import re
from collections.abc import Iterator
from typing import Final

import re2

from gateway.checks.patterns import regex_fault, regex_problems
from gateway.checks.scope import Scope
from gateway.checks.templates import variables
from gateway.model import DnsUpstream, PathMatch, PathRewrite, RegexRewrite, Rewrite
from gateway.problems import Path, Problem
from gateway.resolve import ResolvedRoute

_REFERENCE: Final = re.compile(r"\\(.?)", re.DOTALL)
_REWRITE_TEMPLATE: Final = re.compile(r"(?:[A-Za-z0-9\-._~%!$&'()+,;:@=/]|\{[A-Za-z][A-Za-z0-9_]{0,15}\})+")


def problems(scope: Scope) -> Iterator[Problem]:
    for route in scope.routes:
        spec = route.route
        if spec.backends is None:
            yield from _nothing_is_sent(route)
        if spec.rewrite is not None:
            yield from _rewrite(scope, spec.rewrite, route)
        if spec.redirect is not None and spec.redirect.path_regex is not None:
            yield from regex_rewrite(spec.redirect.path_regex, (*route.path, "redirect", "path_regex"))


def _nothing_is_sent(route: ResolvedRoute) -> Iterator[Problem]:
    spec = route.route
    words = {"rewrite": spec.rewrite, "mirror": spec.mirror, "upgrades": spec.upgrades}
    for word, value in words.items():
        if value:
            message = f"Envoy answers this route by itself: there is nothing that `{word}` could change"
            yield Problem("GW253", (*route.path, word), message, "remove it, or write `backends`")


def _rewrite(scope: Scope, rewrite: Rewrite, route: ResolvedRoute) -> Iterator[Problem]:
    place = (*route.path, "rewrite")
    if rewrite.host is not None and "*" in rewrite.host:
        yield Problem("GW250", (*place, "host"), f"'{rewrite.host}' is no name of one host", "write it in full")
    for name in dict.fromkeys(backend.upstream for backend in route.route.backends or ()):
        upstream = scope.gateway.upstreams.get(name)
        if rewrite.auto_host and upstream is not None and not isinstance(upstream, DnsUpstream):
            message = f"the upstream '{name}' has addresses, no name that could become the host"
            yield Problem("GW250", (*place, "auto_host"), message, "write `host`")
    if rewrite.path is not None:
        yield from _path(rewrite.path, route.match.where, (*place, "path"))


def _path(path: PathRewrite, matched: PathMatch, place: Path) -> Iterator[Problem]:
    if path.prefix is not None and matched.prefix is None:
        message = "`prefix` replaces the prefix that matched, but the route does not match by prefix"
        yield Problem("GW250", (*place, "prefix"), message, "write `exact`, or match by `prefix`")
    if path.template is not None:
        yield from _template(path.template, matched, (*place, "template"))
    if path.regex is not None:
        yield from regex_rewrite(path.regex, (*place, "regex"))


def _template(template: str, matched: PathMatch, place: Path) -> Iterator[Problem]:
    if matched.template is None:
        message = "`template` uses the variables of a template, but the route does not match by one"
        yield Problem("GW250", place, message, "match by `template`, or write `exact`, `prefix` or `regex`")
        return
    if not _REWRITE_TEMPLATE.fullmatch(template) or "//" in template:
        yield Problem("GW222", place, "the template holds something else than text and {variables}")
        return
    known = variables(matched.template)
    for name in dict.fromkeys(variables(template)):
        if name not in known:
            help_ = f"it has {', '.join(known)}" if known else "name its parts: {id} instead of *"
            yield Problem("GW251", place, f"the template that is matched has no variable '{name}'", help_)


def regex_rewrite(rewrite: RegexRewrite, place: Path) -> Iterator[Problem]:
    """Whether RE2 takes the pattern, and the pattern has the groups that its substitution names."""
    if regex_fault(rewrite.pattern):
        yield from regex_problems(rewrite.pattern, (*place, "pattern"))
        return
    groups = re2.compile(rewrite.pattern).groups
    for found in _REFERENCE.finditer(rewrite.substitution):
        name = found[1]
        if not (name.isascii() and name.isdigit()) and name != "\\":
            message = f"the substitution has '{found[0]}'"
            yield Problem("GW251", (*place, "substitution"), message, "groups are \\1 to \\9, the whole is \\0")
        elif name != "\\" and int(name) > groups:
            message = f"the substitution has the group {name}, of which the pattern has {groups or 'none'}"
            yield Problem("GW251", (*place, "substitution"), message)
