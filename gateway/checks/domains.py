"""Limits for other Envoys: domains that are not ours, and trees in which each entry has one place."""

from collections.abc import Iterable, Iterator

from gateway.checks import counting
from gateway.checks.scope import Scope
from gateway.limits import DOMAIN, domain_name
from gateway.model import LimitDescriptor, written_in
from gateway.problems import Path, Problem

OF_A_LIMIT = ("algorithm", "burst", "shadow", "on_error", "share_threshold")


def problems(scope: Scope) -> Iterator[Problem]:
    taken = {DOMAIN: "this gateway itself"}
    for name, domain in scope.gateway.rate_limit_domains.items():
        path = ("rate_limit_domains", name)
        called = domain_name(name, domain)
        if called in taken:
            yield Problem("GW348", path, f"the domain '{called}' is that of {taken[called]}", "write another `domain`")
        taken.setdefault(called, f"'{name}'")
        yield from _level(domain.descriptors, path)


def _level(descriptors: Iterable[LimitDescriptor], path: Path) -> Iterator[Problem]:
    seen: set[tuple[str, str | None]] = set()
    for index, descriptor in enumerate(descriptors):
        place = (*path, "descriptors", index)
        entry = (descriptor.key, descriptor.value)
        if entry in seen:
            said = descriptor.key if descriptor.value is None else f"{descriptor.key}: {descriptor.value}"
            yield Problem("GW349", place, f"another descriptor here is for '{said}' already")
        seen.add(entry)
        yield from _one(descriptor, place)
        yield from _level(descriptor.descriptors, place)


def _one(descriptor: LimitDescriptor, path: Path) -> Iterator[Problem]:
    yield from counting.burst(descriptor, path)
    yield from counting.algorithm(descriptor, path)
    if descriptor.limit is None:
        for word in OF_A_LIMIT:
            if word in written_in(descriptor):
                yield Problem("GW347", (*path, word), f"`{word}` says something of a limit, and there is none")
    elif descriptor.unlimited:
        yield Problem("GW347", (*path, "unlimited"), "a descriptor has a `limit` or is `unlimited`", "remove one")
    if descriptor.share_threshold and "*" not in (descriptor.value or ""):
        message = "only values that a `*` stands for can be counted together"
        yield Problem("GW347", (*path, "share_threshold"), message, "remove it, or write a `*` in the value")
