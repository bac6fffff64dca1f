"""Two snapshots compared: which resources differ, and what Envoy does about each that does.

What a changed Listener means is Envoy's `ListenerImpl::supportUpdateFilterChain`: if nothing but its filter chains
differs it is updated in place, and only connections of chains that are no longer there as they were are drained; else
the listener is replaced and all its connections are. A Cluster that differs in any byte is made anew: it warms
(endpoints, health checks, secrets) while the old one serves, and then connections to the old one end. Routes,
endpoints, secrets and extensions change under open connections.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from google.protobuf.message import Message

from xds_server.resources import CLUSTER, LISTENER, PUSH_ORDER, SECRET, Snapshot

Outcome = Literal["added", "removed", "in_place", "chains_drained", "drained"]
"""Of a listener. `in_place`: no connection ends. `chains_drained`: those of some filter chains. `drained`: all."""

CHAINS: Final = ("filter_chains", "default_filter_chain", "filter_chain_matcher")
"""The fields that Envoy does not look at when it asks whether a listener can be updated in place."""


@dataclass(frozen=True, slots=True)
class TypeDifference:
    """Names of one type, each sorted. `size`: bytes in a delta response, the names of what is removed included."""

    type_url: str
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    size: int

    @property
    def empty(self) -> bool:
        return not (self.added or self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class ListenerDifference:
    """`chains`: the names of filter chains whose connections are drained."""

    name: str
    outcome: Outcome
    chains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """By type in the order of pushing, only types that differ. `warming`: clusters that are there and warm again."""

    types: tuple[TypeDifference, ...]
    listeners: tuple[ListenerDifference, ...]
    warming: tuple[str, ...]
    secrets: tuple[str, ...]

    @property
    def size(self) -> int:
        return sum(one.size for one in self.types)


def difference(before: Snapshot, after: Snapshot) -> Difference:
    """Of two snapshots, or of the views that a node has of them."""
    types = {url: _type(url, before, after) for url in PUSH_ORDER}
    secrets = types[SECRET]
    return Difference(
        types=tuple(one for one in types.values() if not one.empty),
        listeners=tuple(_listeners(before, after, types[LISTENER])),
        warming=types[CLUSTER].changed,
        secrets=tuple(sorted((*secrets.added, *secrets.changed, *secrets.removed))),
    )


def _type(url: str, before: Snapshot, after: Snapshot) -> TypeDifference:
    old, new = (snapshot.types[url].resources if url in snapshot.types else {} for snapshot in (before, after))
    if old is new:
        return TypeDifference(url, (), (), (), 0)
    added = tuple(name for name in new if name not in old)
    changed = tuple(name for name in new if name in old and new[name].version != old[name].version)
    removed = tuple(name for name in old if name not in new)
    size = sum(len(new[name].data) for name in (*added, *changed)) + sum(len(name.encode()) for name in removed)
    return TypeDifference(url, added, changed, removed, size)


def _listeners(before: Snapshot, after: Snapshot, found: TypeDifference) -> Iterator[ListenerDifference]:
    yield from (ListenerDifference(name, "added") for name in found.added)
    for name in found.changed:
        old, new = (Listener.FromString(side.types[LISTENER].resources[name].data) for side in (before, after))
        yield listener_difference(old, new)
    yield from (ListenerDifference(name, "removed", _all(before, name)) for name in found.removed)


def listener_difference(old: Listener, new: Listener) -> ListenerDifference:
    """What Envoy does when it has `old` and is given `new`, which differs."""
    kept = {_bytes(chain) for chain in _chains(new)}
    gone = tuple(chain.name for chain in _chains(old) if _bytes(chain) not in kept)
    if not new.filter_chains or _rest(old) != _rest(new):
        return ListenerDifference(new.name, "drained", tuple(chain.name for chain in _chains(old)))
    return ListenerDifference(new.name, "chains_drained" if gone else "in_place", gone)


def _chains(listener: Listener) -> Iterator[FilterChain]:
    yield from listener.filter_chains
    if listener.HasField("default_filter_chain"):
        yield listener.default_filter_chain


def _all(snapshot: Snapshot, name: str) -> tuple[str, ...]:
    return tuple(chain.name for chain in _chains(Listener.FromString(snapshot.types[LISTENER].resources[name].data)))


def _rest(listener: Listener) -> bytes:
    found = Listener()
    found.CopyFrom(listener)
    for field in CHAINS:
        found.ClearField(field)
    return _bytes(found)


def _bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def as_json(found: Difference) -> dict[str, Any]:
    """`types listeners warming secrets bytes`; types by their short names."""
    return {
        "types": [
            {
                "type": one.type_url.rpartition(".")[2],
                "added": list(one.added),
                "changed": list(one.changed),
                "removed": list(one.removed),
                "bytes": one.size,
            }
            for one in found.types
        ],
        "listeners": [
            {"name": one.name, "outcome": one.outcome, "chains": list(one.chains)} for one in found.listeners
        ],
        "warming": list(found.warming),
        "secrets": list(found.secrets),
        "bytes": found.size,
    }
