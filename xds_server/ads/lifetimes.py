"""Resources that a client forgets unless it is told of them again: time to live, and heartbeats (statements 53 to 55).

Source: xDS protocol, "TTL", and Envoy's list of client features. Times are seconds of whatever clock the caller has.
"""

from collections.abc import Iterable, Set
from typing import Final

from xds_server.ads.events import Send

FEATURE: Final = "xds.config.supports-resource-ttl"
"""A client without it is never told a time to live: what it gets stays."""

WRAPPED: Final = frozenset({"xds.config.resource-in-sotw", "xds.config.supports-resource-in-sotw"})
"""Whether a SotW client unwraps `Resource`. Envoy's list of features and the protocol's text name it differently."""


class Lifetimes:
    """When each resource of one type must be spoken of again: at half its life, so that one heartbeat may be late."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}

    @property
    def next(self) -> float | None:
        return min(self._due.values(), default=None)

    def sent(self, send: Send, now: float) -> None:
        self.forget(send.names)
        self._due.update((r.name, now + r.ttl / 2) for r in send.resources if r.ttl)

    def due(self, now: float) -> Set[str]:
        return {name for name, at in self._due.items() if at <= now}

    def forget(self, names: Iterable[str]) -> None:
        for name in names:
            self._due.pop(name, None)


def supported(features: Iterable[str], *, wrapped: bool) -> bool:
    """Whether a client with these features can be told of a time to live; `wrapped`: only within a Resource."""
    known = set(features)
    return FEATURE in known and (not wrapped or not WRAPPED.isdisjoint(known))
