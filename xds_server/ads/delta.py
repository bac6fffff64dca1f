"""The delta variant: subscriptions are edited, resources carry versions of their own, removals are named."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest

from xds_server.ads.events import Event, Send
from xds_server.ads.stream import AdsStream
from xds_server.ads.substream import WILDCARD, Changes, Substream
from xds_server.resources import VIRTUAL_HOST, Resource, TypeSnapshot


@dataclass
class DeltaSubstream(Substream):
    """`owed` are names whose presence or absence the client must be told (statements 37, 38, 40)."""

    started: bool = False
    owed: set[str] = field(default_factory=set)

    def start(self, request: DeltaDiscoveryRequest) -> None:
        """The first request of the type on this stream: may mean everything, may say what the client has."""
        self.started = True
        if not request.resource_names_subscribe:
            self._all()
        self.edit(request.resource_names_subscribe, request.resource_names_unsubscribe)
        versions = request.initial_resource_versions
        self.held = {name: version for name, version in versions.items() if self.covers(name)}
        self.asked = bool(self.names - versions.keys()) or (self.wildcard and not versions)
        # Whoever names versions has been initialised before and needs no empty answer to get on (statements 42, 43).
        self.answer_empty = self.wildcard and not versions

    def edit(self, subscribe: Iterable[str], unsubscribe: Iterable[str]) -> None:
        """Subscriptions first: a name in both lists ends unsubscribed."""
        for name in subscribe:
            if name == WILDCARD:
                self._all()
            else:
                self._add(name)
        for name in unsubscribe:
            if name == WILDCARD:
                self.wildcard = False
                self._forget(self.held.keys() - self.names)
            elif name in self.names:
                self._remove(name)
        self._in_sync_at = None

    def _all(self) -> None:
        self.asked = self.asked or not self.wildcard
        self.wildcard = True

    def _add(self, name: str) -> None:
        self.names.add(name)
        self._owe(name)

    def _remove(self, name: str) -> None:
        self.names.discard(name)
        if self.wildcard:
            self._owe(name)  # the client dropped it, yet the wildcard still covers it (statement 40)
        else:
            self._forget((name,))

    def _owe(self, name: str) -> None:
        self.doubt((name,))
        self.owed.add(name)
        self.asked = True

    def _forget(self, names: Iterable[str]) -> None:
        names = set(names)
        self.drop(names)
        self.owed -= names

    def _removals(self, wanted: Mapping[str, Resource]) -> list[str]:
        absent = {name for name in self.held if name not in wanted}
        return sorted(absent | {name for name in self.owed if name not in wanted})

    def _compose(self, nonce: str, snapshot: TypeSnapshot, wanted: Mapping[str, Resource], batch: Changes) -> Send:
        self.owed -= batch.keys()
        resources = tuple(r for r in batch.values() if r is not None)
        removed = tuple(name for name, r in batch.items() if r is None)
        return Send(self.type_url, nonce, snapshot.version, resources, removed)


@dataclass
class AliasedSubstream(DeltaSubstream):
    """Virtual hosts: any alias of a resource is as good as its name (statement 46).

    Envoy asks on demand for `<route table>/<host>` and lets the request wait until a response has a resource of that
    alias. A host that nobody has is therefore answered with an empty one: `removed_resources` would not end the wait.
    """

    _found: dict[str, str] = field(default_factory=dict)
    """Alias subscribed to, to the name of what it stands for in the newest snapshot."""

    def covers(self, name: str) -> bool:
        return super().covers(name) or name in self._found.values()

    def wanted(self, snapshot: TypeSnapshot) -> Mapping[str, Resource]:
        aliased = {alias: snapshot.by_alias[alias] for alias in self.names & snapshot.by_alias.keys()}
        self._found = {alias: resource.name for alias, resource in aliased.items()}
        wanted = super().wanted(snapshot)
        if self.wildcard or not aliased:
            return wanted
        return dict(sorted({**wanted, **{r.name: r for r in aliased.values()}}.items()))

    def _updates(self, wanted: Mapping[str, Resource]) -> Changes:
        owed = {self._found[alias] for alias in self.owed & self._found.keys()}
        return {**super()._updates(wanted), **{name: wanted[name] for name in owed if name in wanted}}

    def _removals(self, wanted: Mapping[str, Resource]) -> list[str]:
        return [name for name in super()._removals(wanted) if name not in self._found]

    def _compose(self, nonce: str, snapshot: TypeSnapshot, wanted: Mapping[str, Resource], batch: Changes) -> Send:
        unknown = frozenset(name for name in self.owed if name in batch and batch[name] is None)
        self.owed -= {alias for alias, name in self._found.items() if name in batch}
        return replace(super()._compose(nonce, snapshot, wanted, batch), unknown=unknown)

    def _forget(self, names: Iterable[str]) -> None:
        names = set(names)
        freed = {self._found.pop(name) for name in names & self._found.keys()}
        super()._forget(names | {name for name in freed if not self.covers(name)})


class DeltaStream(AdsStream[DeltaSubstream, DeltaDiscoveryRequest]):
    """One DeltaAggregatedResources (or typed Delta…) call."""

    def _substream(self, type_url: str) -> DeltaSubstream:
        return AliasedSubstream(type_url) if type_url == VIRTUAL_HOST else DeltaSubstream(type_url)

    def _receive(self, sub: DeltaSubstream, request: DeltaDiscoveryRequest) -> tuple[Event, ...]:
        # A stale nonce settles nothing, but the edit it carries counts (statement 36).
        events = sub.settle(request.response_nonce, request.error_detail if request.HasField("error_detail") else None)
        if sub.started:
            sub.edit(request.resource_names_subscribe, request.resource_names_unsubscribe)
        else:
            sub.start(request)
            self._resuming = self._resuming or (not self._implied and bool(request.initial_resource_versions))
        return events

    def _asks(self, request: DeltaDiscoveryRequest) -> int:
        sub = self.types.get(request.type_url or self._implied)
        names: Collection[str] = sub.names if sub else ()
        added = sum(name not in names for name in set(request.resource_names_subscribe))
        return max(len(names) + added, len(request.initial_resource_versions))
