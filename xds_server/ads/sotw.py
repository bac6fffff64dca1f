"""The state-of-the-world variant.

LDS, CDS and SRDS responses are the full set, absence deletes (statement 29). Responses of every other type carry only
what the client does not hold yet: new names and changed contents (statement 30).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from xds_server.ads.events import Event, Send
from xds_server.ads.stream import AdsStream
from xds_server.ads.substream import WILDCARD, Changes, Substream
from xds_server.resources import CLUSTER, LISTENER, SCOPED_ROUTES, Resource, TypeSnapshot, version_of

FULL_SET: Final = frozenset({CLUSTER, LISTENER, SCOPED_ROUTES})


@dataclass
class SotwSubstream(Substream):
    """`explicit` once any name was given: from then on an empty list means nothing, not everything (statement 25)."""

    explicit: bool = False
    _last: Mapping[str, Resource] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return self.type_url in FULL_SET

    @property
    def bare_beats(self) -> bool:
        """Envoy 1.40 knows such a heartbeat in SotW, does not begin the life again for it, and drops the resource."""
        return False

    def stale(self, nonce: str) -> bool:
        """Sent before the client saw our newest response; the request that answers it will say the same (statement 17).

        Before our first response any nonce is another stream's and means nothing (statement 4).
        """
        return bool(self.nonce) and nonce != self.nonce and (bool(nonce) or self.outstanding is not None)

    def subscribe(self, names: Iterable[str]) -> None:
        """Take over the list of a request as a whole (statements 20 to 28)."""
        listed = set(names)
        self.explicit = self.explicit or bool(listed)
        wildcard = WILDCARD in listed or not self.explicit
        listed.discard(WILDCARD)
        added = listed - self.names
        if added or (wildcard and not self.wildcard):
            self.asked = True
            self.answer_empty = self.whole
        self.wildcard, self.names = wildcard, listed
        self.doubt(added)
        self.drop(() if wildcard else self.held.keys() - listed)
        if not wildcard and not listed:
            self.asked = self.answer_empty = False
        self._in_sync_at = None

    def _view(self, snapshot: TypeSnapshot, keep: Callable[[], bool]) -> Mapping[str, Resource]:
        """In a full set, what is referred to still stays until it is not."""
        wanted = self.wanted(snapshot)
        if not self.whole:
            return wanted
        dropped = [name for name in self.held if name not in wanted and name in self._last]
        if not dropped or not keep():
            return wanted
        return dict(sorted({**wanted, **{name: self._last[name] for name in dropped}}.items()))

    def _removals(self, wanted: Mapping[str, Resource]) -> list[str]:
        absent = [name for name in self.held if name not in wanted]
        if self.whole:
            return absent
        for name in absent:  # nobody is told; should it come back it is new
            self.held.pop(name)
        return []

    def _compose(self, nonce: str, snapshot: TypeSnapshot, wanted: Mapping[str, Resource], batch: Changes) -> Send:
        if not self.whole:
            return Send(self.type_url, nonce, snapshot.version, tuple(r for r in batch.values() if r is not None))
        self._last = wanted
        kept = [f"{name}\0{r.version}" for name, r in wanted.items() if name not in snapshot.resources]
        version = version_of("\n".join((snapshot.version, *kept)).encode()) if kept else snapshot.version
        return Send(self.type_url, nonce, version, tuple(wanted.values()))


class SotwStream(AdsStream[SotwSubstream, DiscoveryRequest]):
    """One StreamAggregatedResources (or typed Stream…) call."""

    _wraps = True

    def _substream(self, type_url: str) -> SotwSubstream:
        return SotwSubstream(type_url)

    def _receive(self, sub: SotwSubstream, request: DiscoveryRequest) -> tuple[Event, ...]:
        if sub.stale(request.response_nonce):
            return ()
        events = sub.settle(request.response_nonce, request.error_detail if request.HasField("error_detail") else None)
        sub.subscribe(request.resource_names)
        return events

    def _asks(self, request: DiscoveryRequest) -> int:
        return len(request.resource_names)
