"""Descriptor trees for other fleets: what `rate_limit_domains` says, as the trees that requests are looked up in."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from gateway.limits import domain_name
from gateway.model import Gateway, LimitDescriptor
from policy.ratelimit.tree import KEPT_APART, Limit, Node, Pattern, Tree, algorithm, key_part


class _Way(NamedTuple):
    """How far down the tree: the words of it that metrics have, and which of its values they show."""

    domain: str
    name: str
    rule: tuple[str, ...] = ()
    shown: tuple[bool, ...] = ()

    def to(self, descriptor: LimitDescriptor) -> "_Way":
        value = "" if descriptor.value is None else f"={descriptor.value}"
        shown = (*self.shown, descriptor.value_to_metric)
        return self._replace(rule=(*self.rule, f"{descriptor.key}{value}"), shown=shown)


def trees(gateway: Gateway) -> Mapping[str, Tree]:
    """By the domain that requests name."""
    found = {}
    for name, domain in gateway.rate_limit_domains.items():
        called = domain_name(name, domain)
        root = _node(domain.descriptors, _Way(called, name))
        found[called] = Tree(root, called, replacing=any(one.replaces for one in _all(domain.descriptors)))
    return found


def _all(descriptors: Iterable[LimitDescriptor]) -> Iterator[LimitDescriptor]:
    for descriptor in descriptors:
        yield descriptor
        yield from _all(descriptor.descriptors)


def _node(below: Iterable[LimitDescriptor], way: _Way, own: LimitDescriptor | None = None) -> Node:
    exact, by_key, patterns = {}, {}, []
    for descriptor in below:
        node = _node(descriptor.descriptors, way.to(descriptor), descriptor)
        if descriptor.value is None:
            by_key[descriptor.key] = node
        elif "*" in descriptor.value:
            patterns.append(Pattern(descriptor.key, tuple(descriptor.value.split("*")), node))
        else:
            exact[descriptor.key, descriptor.value] = node
    return Node(
        exact=exact,
        by_key=by_key,
        patterns=tuple(patterns),
        limits=_limits(own, way) if own else (),
        text=_text(own) if own else None,
        replaces=own.replaces if own else (),
        shown=_shown(own, way) if own else (),
    )


def _text(descriptor: LimitDescriptor) -> str | None:
    """Values that a pattern stands for have counters of their own, unless they share its threshold."""
    if descriptor.value is None or ("*" in descriptor.value and not descriptor.share_threshold):
        return None
    return key_part((descriptor.key, descriptor.value))


def _shown(descriptor: LimitDescriptor, way: _Way) -> tuple[bool, ...]:
    if descriptor.detailed_metric:
        return (True,) * len(way.shown)
    return way.shown if any(way.shown) else ()


def _limits(descriptor: LimitDescriptor, way: _Way) -> tuple[Limit, ...]:
    limit = descriptor.limit
    if limit is None:
        return ()
    counted = algorithm(descriptor)
    suffix = f"{limit.unit}{KEPT_APART[counted]}"
    one = Limit(
        requests=limit.requests,
        unit=limit.unit,
        length=limit.seconds * 1000,
        cost=1,
        shadow=descriptor.shadow,
        name=descriptor.name or "",
        policy=descriptor.name or f"{way.name}-{suffix}",
        rule=f"{way.domain}:{'/'.join(way.rule)}",
        tier="",
        suffix=suffix,
        burst=descriptor.burst or 0,
        algorithm=counted,
        on_error=descriptor.on_error or "",
    )
    return (one,)
