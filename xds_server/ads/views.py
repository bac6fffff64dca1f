"""Who gets what: of what is published each node has the view of its group, unless it cannot have it.

Everything that decides (waves, group, version of Envoy, refusals) is in `Views.choose`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from envoy.config.core.v3.base_pb2 import Node as NodeMessage

from gateway.nodes import Node
from xds_server.ads.board import GONE_FOR
from xds_server.ads.groups import node_of, view_of
from xds_server.ads.versions import Version, too_old, version_of
from xds_server.resources import ENDPOINTS, SECRET, Resource, Snapshot, TypeSnapshot

DATA: Final = frozenset({ENDPOINTS, SECRET})
"""Types that a refusal of theirs leaves alone: Envoy keeps what it had of each, and only what uses it is hurt."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A snapshot on its way: the nodes of the waves that have begun are to have it, all others what is published."""

    snapshot: Snapshot
    nodes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a node is given now: `view`, None for nothing new; it is the node's view of `source`, a published snapshot.

    `newest`: whether that is what the node is to have; if not, it is on what it last had in full. `reason`: why its
    Envoy cannot have the newest, "" if it can.
    """

    view: Snapshot | None
    source: Snapshot | None = None
    newest: bool = True
    reason: str = ""


NOTHING: Final = Choice(None)


@dataclass(slots=True)
class Record:
    """What is known of a node. `good` and the other configuration `before` it: published snapshots it had in full.

    `refused`: by type the version, in its newest view, that it refused. `left`: since when it has no stream.
    `revision`: that it has in full, on a stream of now; `rejected`: that it refused something of. 0: none.
    """

    node: Node
    good: Snapshot | None = None
    before: Snapshot | None = None
    refused: dict[str, str] = field(default_factory=dict)
    streams: int = 0
    left: datetime | None = None
    revision: int = 0
    rejected: int = 0

    def refuses(self, view: Snapshot) -> bool:
        """Whether the view still has what the node refused."""
        return any(view.types[url].version == version for url, version in self.refused.items() if url in view.types)


class Views:
    """Which snapshot each node is given. For one event loop, no locks."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.published: Snapshot | None = None
        self.trial: Trial | None = None
        self._clock = clock
        self._records: dict[str, Record] = {}
        self._tried: dict[str, dict[str, bool]] = {}
        """By version of a view of the published snapshot: the nodes that were given it, and whether each refused it."""
        self._fresh: dict[tuple[str, str], Snapshot] = {}
        self._judged: dict[tuple[Version | None, str], str] = {}

    @property
    def records(self) -> Mapping[str, Record]:
        """What is known of each node, by its id."""
        return self._records

    def publish(self, snapshot: Snapshot, trial: Trial | None = None) -> None:
        self.published, self.trial = snapshot, trial
        self._tried, self._fresh, self._judged = {}, {}, {}
        oldest = self._clock() - GONE_FOR
        self._records = {name: one for name, one in self._records.items() if one.left is None or one.left >= oldest}

    def join(self, message: NodeMessage) -> None:
        """A stream of the node begins; what it is may have changed since its last one."""
        record = self._records.setdefault(message.id, Record(node_of(message)))
        record.node, record.left = node_of(message), None
        if record.streams == 0:
            record.revision = 0  # an Envoy that was started anew has nothing
        record.streams += 1

    def leave(self, node_id: str) -> None:
        """A stream of the node has ended. What it had and refused is known for a while, for when it comes back."""
        record = self._records[node_id]
        record.streams -= 1
        if record.streams == 0:
            record.left = self._clock()

    def choose(self, message: NodeMessage) -> Choice:
        """Its newest view. If it is too old for that, or refused it: what it last had in full, or else its group.

        A new node gets what its group last had too, if all that have tried the newest refused it.
        """
        given = self.given(message.id)
        if given is None:
            return NOTHING
        record = self._records.get(message.id) or Record(node_of(message))
        newest, version = view_of(given, record.node), version_of(message)
        reason = self._too_old(version, newest)
        if not reason and self._may_try(record, newest):
            return Choice(newest, given)
        for source in self._good(record):
            view = view_of(source, record.node)
            if not record.refuses(view) and not self._too_old(version, view):
                return Choice(self._with_data(view, newest), source, newest=False, reason=reason)
        return Choice(None, reason=reason, newest=False) if reason else Choice(newest, given)

    def given(self, node_id: str) -> Snapshot | None:
        """The snapshot that the node is to have, if it can."""
        if self.trial is not None and node_id in self.trial.nodes:
            return self.trial.snapshot
        return self.published

    def taken(self, node_id: str, choice: Choice) -> None:
        """The node has all of what it was given, of every type that an Envoy asks for."""
        record = self._records[node_id]
        if choice.source is not None:
            record.revision = choice.source.revision
            record.rejected = 0 if choice.newest else record.rejected
        if choice.newest and choice.source is not None and choice.source is not record.good:
            if record.good is not None and not _same_but_for_data(record.good, choice.source):
                record.before = record.good
            record.good = choice.source
            record.refused = {}

    def refused(self, node_id: str, choice: Choice, type_url: str) -> None:
        """The node refused something of this type of what it was given. What it refused of an old view stays parked."""
        record = self._records[node_id]
        if choice.newest and choice.source is not None:
            record.revision, record.rejected = 0, choice.source.revision
        if not choice.newest or choice.view is None or type_url in DATA or type_url not in choice.view.types:
            return
        record.refused[type_url] = choice.view.types[type_url].version
        self._tried.setdefault(choice.view.version, {})[node_id] = True
        if record.good is not None and record.refuses(view_of(record.good, record.node)):
            record.good = record.before  # it only seemed to have all of it: this was still to come

    def _too_old(self, version: Version | None, view: Snapshot) -> str:
        """Asked again for every response to every node, and the answer may take a look at all resources."""
        key = (version, view.version)
        if key not in self._judged:
            self._judged[key] = too_old(version, view)
        return self._judged[key]

    def _may_try(self, record: Record, newest: Snapshot) -> bool:
        tried = self._tried.setdefault(newest.version, {})
        if record.refuses(newest):
            tried[record.node.id] = True
            return False
        if record.good is None and record.node.id not in tried and tried and all(tried.values()):
            return False  # it has nothing of its own to go back to, so it is not the one to try
        tried[record.node.id] = False
        return True

    def _good(self, record: Record) -> Iterator[Snapshot]:
        """What the node has had in full; then what others have had that were of its group, the newest first."""
        if record.good is not None:
            yield record.good
            return
        others = ((one.node, one.good) for one in self._records.values() if one.good is not None)
        proven = {id(good): good for node, good in others if view_of(good, node) is view_of(good, record.node)}
        yield from sorted(proven.values(), key=lambda good: good.revision, reverse=True)

    def _with_data(self, view: Snapshot, newest: Snapshot) -> Snapshot:
        """An old view with the endpoints and secrets of now, as far as it has them and the node still may."""
        key = (view.version, newest.version)
        if key not in self._fresh:
            types = {
                url: _renewed(one, newest.types.get(url)) if url in DATA else one for url, one in view.types.items()
            }
            self._fresh[key] = replace(view, types=MappingProxyType(types), shares=())
        return self._fresh[key]


def _renewed(old: TypeSnapshot, new: TypeSnapshot | None) -> TypeSnapshot:
    if new is None:
        return old
    found: dict[str, Resource] = {name: new.resources.get(name, one) for name, one in old.resources.items()}
    return TypeSnapshot(old.type_url, MappingProxyType(found))


def _same_but_for_data(one: Snapshot, other: Snapshot) -> bool:
    urls = (one.types.keys() | other.types.keys()) - DATA
    return all(_version(one, url) == _version(other, url) for url in urls)


def _version(snapshot: Snapshot, url: str) -> str:
    return snapshot.types[url].version if url in snapshot.types else ""
