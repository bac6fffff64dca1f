"""What both variants share across the types of one stream: identity, nonces, limits, the order of things."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Generic, Protocol, TypeVar

from envoy.config.core.v3.base_pb2 import Node as NodeMessage

from xds_server.ads import lifetimes
from xds_server.ads.events import Event, Reject, Send
from xds_server.ads.substream import Substream
from xds_server.resources import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    PUSH_ORDER,
    ROUTES,
    SCOPED_ROUTES,
    SECRET,
    VIRTUAL_HOST,
    Snapshot,
    TypeSnapshot,
)

REFERRERS: Final[Mapping[str, tuple[str, ...]]] = {
    CLUSTER: (LISTENER, SCOPED_ROUTES, ROUTES, VIRTUAL_HOST, EXTENSION),
    ENDPOINTS: (CLUSTER,),
    SECRET: (CLUSTER, LISTENER, ROUTES, VIRTUAL_HOST),
    EXTENSION: (LISTENER,),
    SCOPED_ROUTES: (LISTENER,),
    ROUTES: (LISTENER, SCOPED_ROUTES),
    VIRTUAL_HOST: (ROUTES,),
}
"""Who may still point at a resource: its removal waits for their ACKs on the same stream (statement 48)."""

AFTER_CLUSTERS: Final = frozenset({EXTENSION, LISTENER, SCOPED_ROUTES, ROUTES, VIRTUAL_HOST})
"""These may point at a new cluster. Updates wait until it is warm, answers until it is sent at least (statement 52)."""


BREATH: Final = 0.05
"""Seconds between two looks at what is due."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one stream may ask for. `names` counts per type and request, `identity` characters of its node's names."""

    names: int = 50_000
    types: int = 64
    identity: int = 1024


class Message(Protocol):
    """What the two kinds of request have in common."""

    @property
    def type_url(self) -> str: ...
    @property
    def node(self) -> NodeMessage: ...


Sub = TypeVar("Sub", bound=Substream)
Request = TypeVar("Request", bound=Message)


class AdsStream(ABC, Generic[Sub, Request]):
    """One stream without its transport: `receive` a request, then take from `next` until it gives None.

    `implied` is the type of a per-type service ("" on ADS); `prefix` makes this stream's nonces its own (statement 4).
    It knows no clock: `tick` tells it the time.
    """

    _wraps: ClassVar[bool] = False
    """Whether a time to live can be told only by a Resource around the resource."""

    def __init__(self, prefix: str = "", implied: str = "", limits: Limits | None = None) -> None:
        self.node: NodeMessage | None = None
        self.types: dict[str, Sub] = {}
        self.held_back = False
        """Something waits for the client, or may have to; `release` ends that when the client has had time enough."""
        self._limits = limits or Limits()
        self._prefix = prefix
        self._implied = implied
        self._count = 0
        self._released: Send | None = None
        self._resuming = False
        """The client came back with what it had. What it has not spoken of yet may still point at anything."""
        self._warming: set[str] = set()
        self._now = 0.0

    def tick(self, now: float) -> float | None:
        """It is `now`, in seconds of a clock that does not go back. When to ask `next` again if nothing happens."""
        self._now = now
        free = (sub for sub in self.types.values() if sub.outstanding is None)
        due = min((at for sub in free if (at := sub.lifetimes.next) is not None), default=None)
        return None if due is None else max(due, now + BREATH)  # something else may keep what is due back

    def receive(self, request: Request) -> tuple[Event, ...]:
        """ACK, NACK and subscription of one request. A Reject ends the stream."""
        type_url = request.type_url or self._implied
        refusal = self._identify(request.node) or self._typed(type_url) or self._bounded(request)
        if refusal is not None:
            return (refusal,)
        if type_url not in self.types:
            self.types[type_url] = self._substream(type_url)
            self.types[type_url].ttl = self._mortal(type_url)
        return self._receive(self.types[type_url], request)

    def next(self, snapshot: Snapshot) -> Send | None:
        """The next response in make-before-break order (statement 47), or None when all is said for now."""
        self.held_back = self._resuming
        for type_url in sorted(self.types, key=_order):
            resources = snapshot.types.get(type_url)
            if resources is None:  # an unknown type: it may become known with a later snapshot (statement 5)
                continue
            send = self._next_of(self.types[type_url], resources, snapshot)
            send = send or self.types[type_url].heartbeat(resources, self._nonce, self._now)
            if send is not None:
                return send
        return None

    def release(self) -> None:
        """Do not wait any longer for what a resumed client has not said, or else for the ACK of the outstanding CDS."""
        clusters = self.types.get(CLUSTER)
        if self._resuming:
            self._resuming = False
        else:
            self._released = clusters.outstanding if clusters else None

    def in_sync(self, snapshot: Snapshot) -> dict[str, bool]:
        """For each subscribed type that the snapshot knows: whether the client has acknowledged all of it."""
        return {url: sub.in_sync(snapshot.types[url]) for url, sub in self.types.items() if url in snapshot.types}

    def _next_of(self, sub: Sub, resources: TypeSnapshot, snapshot: Snapshot) -> Send | None:
        if sub.type_url == ENDPOINTS:
            sub.doubt(self._warming)
            self._warming.clear()
        hold = sub.type_url in AFTER_CLUSTERS and self._clusters_pending(snapshot)
        send = None
        if not (hold and sub.asked and self._must_wait(snapshot)):
            send = sub.next(resources, self._nonce, hold=hold, keep=lambda: self._referred(sub.type_url, snapshot))
        if send is None:
            self.held_back = self.held_back or (hold and sub.would_send(resources))
            return None
        if sub.ttl:
            sub.lifetimes.sent(send, self._now)
        if sub.type_url == CLUSTER:
            self._warming.update(r.endpoints for r in sub.sent.values() if r is not None and r.endpoints)
        return send

    def _clusters_pending(self, snapshot: Snapshot) -> bool:
        clusters = self.types.get(CLUSTER)
        if clusters is None:
            return self._resuming
        if clusters.outstanding is not None and clusters.outstanding is not self._released:
            return True
        return _adds(clusters, snapshot)  # not in the node's CDS, however long that takes

    def _must_wait(self, snapshot: Snapshot) -> bool:
        """Whether an answer has to wait too: it may point at a cluster that the client has not been told of.

        That cluster is on its way behind an outstanding CDS response. Warming needs EDS and SDS only, and neither ever
        waits (statement 50), so nothing waits in a circle.
        """
        clusters = self.types.get(CLUSTER)
        if clusters is None or clusters.outstanding is None or clusters.outstanding is self._released:
            return False
        return _adds(clusters, snapshot)

    def _referred(self, type_url: str, snapshot: Snapshot) -> bool:
        """Whether something on this stream may still point at a resource of the type that the snapshot has dropped."""
        in_sync = self.in_sync(snapshot)
        return not all(in_sync.get(referrer, not self._resuming) for referrer in REFERRERS.get(type_url, ()))

    def _identify(self, node: NodeMessage) -> Reject | None:
        """Only the first request must name the node (statement 1); nobody changes its name on the way."""
        if self.node is None:
            if not node.id:
                return Reject("INVALID_ARGUMENT", "the first request of a stream must carry node.id")
            most = self._limits.identity  # the board keeps both for a while after the stream
            if max(len(node.id), len(node.cluster)) > most:
                return Reject("INVALID_ARGUMENT", f"node.id and node.cluster may have {most} characters")
            self.node = node
        elif node.id and node.id != self.node.id:
            return Reject("INVALID_ARGUMENT", "node.id changed within a stream")
        return None

    def _typed(self, type_url: str) -> Reject | None:
        if not type_url:
            return Reject("INVALID_ARGUMENT", "type_url is required on an aggregated stream")
        if self._implied and type_url != self._implied:
            return Reject("INVALID_ARGUMENT", f"this service serves {self._implied} only")
        if type_url not in self.types and len(self.types) >= self._limits.types:
            return Reject("RESOURCE_EXHAUSTED", f"more than {self._limits.types} resource types on one stream")
        return None

    def _bounded(self, request: Request) -> Reject | None:
        if self._asks(request) > self._limits.names:
            return Reject("RESOURCE_EXHAUSTED", f"more than {self._limits.names} resource names of one type")
        return None

    def _mortal(self, type_url: str) -> bool:
        """Whether this client can be told how long resources of the type live. Envoy's VHDS knows no heartbeats."""
        features = self.node.client_features if self.node is not None else ()
        return type_url != VIRTUAL_HOST and lifetimes.supported(features, wrapped=self._wraps)

    def _nonce(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count}"

    @abstractmethod
    def _substream(self, type_url: str) -> Sub: ...

    @abstractmethod
    def _receive(self, sub: Sub, request: Request) -> tuple[Event, ...]: ...

    @abstractmethod
    def _asks(self, request: Request) -> int:
        """How many names the client would be subscribed to."""


def _adds(clusters: Substream, snapshot: Snapshot) -> bool:
    """Whether the snapshot has clusters for this client that are not sent yet and not parked behind a NACK."""
    resources = snapshot.types.get(CLUSTER)
    if resources is None or clusters.in_sync(resources):
        return False
    return any(r is not None for r in clusters.fresh(clusters.differences(resources)).values())


def _order(type_url: str) -> tuple[int, str]:
    return (PUSH_ORDER.index(type_url) if type_url in PUSH_ORDER else len(PUSH_ORDER), type_url)
