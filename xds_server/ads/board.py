"""Who is connected, and what each node has been sent, has acknowledged and has refused."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal

from gateway.nodes import Node
from xds_server.ads.events import Acked, Nacked, Send
from xds_server.ads.groups import view_of
from xds_server.resources import Snapshot

Mode = Literal["sotw", "delta"]

GONE_FOR: Final = timedelta(minutes=15)
GONE_ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Nack:
    """One refusal as the client worded it (statement 11). `names` are all names of the response."""

    version: str
    nonce: str
    message: str
    names: tuple[str, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class TypeRow:
    """One type on one stream. Versions are those of `TypeSnapshot`, "" for none.

    `current_version` is the published version that the node is known to hold in full, as far as it subscribes: it moves
    on without a response when nothing of the subscription changed. `nack` stands until the node has taken something
    better; `last_nack` stays.
    """

    sent_version: str = ""
    sent_at: datetime | None = None
    acked_version: str = ""
    acked_at: datetime | None = None
    current_version: str = ""
    nack: Nack | None = None
    last_nack: Nack | None = None


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One stream. Two live streams of the same node are two rows, told apart by `stream`.

    `node` is what the client says of itself, `build` its version as it reports it ("1.40.0"); times are UTC. A
    row of a finished stream has `connected` False and says when it was last seen. `revision` is the newest one that the
    stream had in full. `withheld` says why the newest snapshot is not offered to it.
    """

    stream: int
    node: Node
    build: str
    mode: Mode
    peer: str
    since: datetime
    last_seen: datetime
    connected: bool = True
    revision: int = 0
    types: Mapping[str, TypeRow] = field(default_factory=lambda: MappingProxyType({}))
    withheld: str = ""

    @property
    def id(self) -> str:
        return self.node.id

    @property
    def cluster(self) -> str:
        return self.node.cluster

    def synced(self, target: Snapshot | int) -> bool:
        """Whether every type this stream subscribes to is acknowledged at that snapshot or revision, or a later one."""
        if isinstance(target, int):
            return self.revision >= target
        types = view_of(target, self.node).types
        return self.revision > target.revision or all(
            row.current_version == types[url].version for url, row in self.types.items() if url in types
        )


class _Wait:
    """One waiter for a snapshot or revision: the live streams that are behind it."""

    def __init__(self, target: Snapshot | int, rows: Iterable[NodeRow]) -> None:
        self.target = target
        self.done = asyncio.Event()
        self.behind = {row.stream for row in rows if not row.synced(target)}
        self._check()

    def see(self, row: NodeRow) -> None:
        if row.connected and not row.synced(self.target):
            self.behind.add(row.stream)
            self.done.clear()
        else:
            self.behind.discard(row.stream)
            self._check()

    def _check(self) -> None:
        if not self.behind:
            self.done.set()


class Board:
    """Rows are frozen; the board replaces them. For one event loop, no locks."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._live: dict[int, NodeRow] = {}
        self._gone: dict[int, NodeRow] = {}
        self._waits: set[_Wait] = set()
        self._streams = 0

    @property
    def rows(self) -> tuple[NodeRow, ...]:
        """Live streams, then those that ended a while ago, each in the order of their names."""
        self._prune()
        return tuple(
            sorted([*self._live.values(), *self._gone.values()], key=lambda r: (not r.connected, r.id, r.stream))
        )

    def row(self, stream: int) -> NodeRow:
        """A live stream's row. Raises KeyError once it has ended."""
        return self._live[stream]

    def synced(self, target: Snapshot | int) -> bool:
        """Whether every connected node has acknowledged the snapshot or revision, or a later one."""
        return not self.behind(target)

    def behind(self, target: Snapshot | int) -> tuple[NodeRow, ...]:
        """The connected nodes that have not."""
        return tuple(row for row in self._live.values() if not row.synced(target))

    async def converged(self, target: Snapshot | int, timeout: float) -> tuple[NodeRow, ...]:  # noqa: ASYNC109 - part of the result
        """Wait until no connected node is behind; those that still are after `timeout` seconds."""
        wait = _Wait(target, self._live.values())
        self._waits.add(wait)
        try:
            async with asyncio.timeout(timeout):
                while wait.behind:  # one more may have connected before this task came to run
                    await wait.done.wait()
        except TimeoutError:
            pass
        finally:
            self._waits.discard(wait)
        return tuple(self._live[stream] for stream in sorted(wait.behind))

    def connect(self, node: Node, build: str, mode: Mode, peer: str = "") -> NodeRow:
        now = self._clock()
        self._streams += 1
        self._gone = {stream: row for stream, row in self._gone.items() if row.id != node.id}
        return self._put(NodeRow(self._streams, node, build, mode, peer, now, now))

    def disconnect(self, stream: int) -> None:
        row = self._live.pop(stream, None)
        if row is None:
            return
        gone = replace(row, connected=False, last_seen=self._clock())
        if all(other.id != row.id for other in self._live.values()):
            self._gone[stream] = gone
        self._prune()
        self._tell(gone)

    def subscribed(self, stream: int, type_url: str) -> None:
        """The stream asks for a type from now on: until it has it, it is behind."""
        node = self._live[stream]
        if type_url not in node.types:
            self._put(replace(node, revision=0, types=MappingProxyType({**node.types, type_url: TypeRow()})))

    def sent(self, stream: int, send: Send) -> None:
        row = self._row(stream, send.type_url)
        self._change(stream, send.type_url, replace(row, sent_version=send.version, sent_at=self._clock()))

    def acked(self, stream: int, event: Acked) -> None:
        row = self._row(stream, event.type_url)
        self._change(stream, event.type_url, replace(row, acked_version=event.version, acked_at=self._clock()))

    def nacked(self, stream: int, event: Nacked, *, newest: bool = True) -> None:
        """Without `newest` the node refused what it was given back: its refusal of the newest stands before that."""
        last = Nack(event.version, event.nonce, event.message, event.names, self._clock())
        row = self._row(stream, event.type_url)
        nack = last if newest else row.nack or last
        self._change(stream, event.type_url, replace(row, nack=nack, last_nack=last))

    def withhold(self, stream: int, reason: str) -> None:
        """The newest snapshot is not offered to the stream for this reason; "" if it is."""
        node = self._live[stream]
        if node.withheld != reason:
            self._put(replace(node, withheld=reason))

    def settled(self, stream: int, snapshot: Snapshot, in_sync: Mapping[str, bool], *, newest: bool = True) -> None:
        """Everything is said for now: these types are, or are not, acknowledged at the version of the node's view.

        Without `newest` that is an older view, given back to a node that refused the newest: its refusals stand.
        """
        node = self._live[stream]
        types = dict(node.types)
        for url, synced in in_sync.items():
            row, version = types.get(url, TypeRow()), snapshot.types[url].version
            nack = None if newest else row.nack
            if synced and (row.current_version, row.nack) != (version, nack):
                types[url] = replace(row, current_version=version, nack=nack)
            elif not synced and row.current_version == version:
                types[url] = replace(row, current_version="")
        revision = snapshot.revision if all(in_sync.values()) else node.revision
        if types != node.types or revision != node.revision:
            self._put(replace(node, types=MappingProxyType(types), revision=revision, last_seen=self._clock()))

    def _row(self, stream: int, type_url: str) -> TypeRow:
        return self._live[stream].types.get(type_url, TypeRow())

    def _change(self, stream: int, type_url: str, row: TypeRow) -> None:
        node = self._live[stream]
        types = MappingProxyType({**node.types, type_url: row})
        self._put(replace(node, types=types, last_seen=self._clock()))

    def _put(self, row: NodeRow) -> NodeRow:
        self._live[row.stream] = row
        self._tell(row)
        return row

    def _tell(self, row: NodeRow) -> None:
        for wait in self._waits:
            wait.see(row)

    def _prune(self) -> None:
        oldest = self._clock() - GONE_FOR
        kept = [row for row in self._gone.values() if row.last_seen >= oldest][-GONE_ROWS:]
        self._gone = {row.stream: row for row in kept}
