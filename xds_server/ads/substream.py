"""One resource type on one stream (statement 3): what the client asked for, what it holds, what it refused.

The two variants of the protocol share everything here; `sotw.py` and `delta.py` add how a request is read and how a
response is put together. Nothing in these classes waits, sleeps or writes: whoever owns the stream calls `next` when
there is room for a response, so what goes out is always made from the newest snapshot.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from google.rpc.status_pb2 import Status

from xds_server.ads.events import Acked, Event, Nacked, Send
from xds_server.ads.lifetimes import Lifetimes
from xds_server.resources import NODE_FILES, SECRET, Resource, TypeSnapshot

UNSURE: Final = ""
"""A held version that equals no real one: the client has this resource in a state that we do not know."""

WILDCARD: Final = "*"

Changes = dict[str, Resource | None]
"""What separates the client from a snapshot, by name; None is a removal."""


@dataclass
class Substream(ABC):
    """`held` is optimistic: it is written when a response is made and taken back by a NACK."""

    type_url: str
    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    held: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Name to the version in a NACKed response (UNSURE for a removal): not sent again as it is (statement 10)."""
    nonce: str = ""
    outstanding: Send | None = None
    asked: bool = False
    """A request waits for its answer."""
    answer_empty: bool = False
    """The answer is owed even if it has no resource in it."""
    ttl: bool = False
    """Whether the client can be told how long a resource lives."""
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    sent: Changes = field(default_factory=dict)
    """What the newest response changed."""
    _reopened: bool = False
    _claims: dict[str, str] = field(default_factory=dict)
    _in_sync_at: str | None = None
    _version: str = ""

    @property
    def whole(self) -> bool:
        """Whether every response is the full set."""
        return False

    @property
    def bare_beats(self) -> bool:
        """Whether heartbeats go without contents."""
        return True

    def covers(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def wanted(self, snapshot: TypeSnapshot) -> Mapping[str, Resource]:
        """What the snapshot has of this subscription (statement 34), in name order."""
        if self.wildcard:
            return snapshot.resources
        resources = snapshot.resources
        return {name: resources[name] for name in sorted(self.names & resources.keys())}

    def in_sync(self, snapshot: TypeSnapshot) -> bool:
        """Whether the client has acknowledged all that the snapshot has for it."""
        if self.outstanding is not None and not self.outstanding.heartbeat:
            return False
        if self._in_sync_at != snapshot.version and not self.differences(snapshot):
            self._in_sync_at = snapshot.version
        return self._in_sync_at == snapshot.version

    def differences(self, snapshot: TypeSnapshot) -> Changes:
        wanted = self.wanted(snapshot)
        return {**self._updates(wanted), **dict.fromkeys(self._removals(wanted))}

    def doubt(self, names: Iterable[str]) -> None:
        """These must go out again, changed or not (statements 20, 37, 49)."""
        for name in names:
            self._pardon(name)
            if name in self.held:
                self.held[name] = UNSURE
                self._in_sync_at = None

    def drop(self, names: Iterable[str]) -> None:
        """The client has no interest in these any more; a later subscription starts afresh (statement 27)."""
        for name in list(names):
            self.held.pop(name, None)
            self.lifetimes.forget((name,))
            self._pardon(name)

    def settle(self, nonce: str, error: Status | None) -> tuple[Event, ...]:
        """Close the outstanding response if the request speaks of it (statements 7 to 9)."""
        response = self.outstanding
        if response is None or nonce != response.nonce:
            return ()
        self.outstanding = None
        if error is None:
            return () if response.heartbeat else self._accept(response)
        if response.heartbeat:
            self.doubt(response.names)
        else:
            self._refuse()
        return (Nacked(self.type_url, response.version, nonce, error.message, response.names),)

    def _accept(self, response: Send) -> tuple[Event, ...]:
        for name in self._claims:
            self.refused.pop(name, None)
        return (Acked(self.type_url, response.version, response.nonce),)

    def _refuse(self) -> None:
        # A NACK is not atomic: any part of the response may be in force, so nothing of it counts as held.
        for name, version in self._claims.items():
            if self.covers(name):
                self.refused[name] = version
                self.held[name] = UNSURE
        self._reopened = False

    def next(
        self, snapshot: TypeSnapshot, nonce: Callable[[], str], *, hold: bool, keep: Callable[[], bool]
    ) -> Send | None:
        """The response to write now, if any. One is outstanding at a time (statement 17).

        `hold` keeps back all but what the client has asked for and lacks; `keep` says whether removals must wait, and
        is asked only if there are any.
        """
        if self.outstanding is not None or (self.in_sync(snapshot) and not self.answer_empty):
            self.asked = self.asked and self.outstanding is not None
            return None
        if hold and not self.asked:
            return None
        wanted = self._view(snapshot, keep)
        batch = self._batch(wanted, keep)
        if hold and not self.whole:
            batch = self._lacking(batch)
        if self.type_url == SECRET:
            batch = apart(batch)
        if not batch and not self.answer_empty:
            self.asked = False
            return None
        return self._sending(self._compose(nonce(), snapshot, wanted, batch), batch)

    def heartbeat(self, snapshot: TypeSnapshot, nonce: Callable[[], str], now: float) -> Send | None:
        """What tells the client that its resources stand, when half of their life is over (statement 54)."""
        due = self.lifetimes.due(now) if self.outstanding is None else ()
        wanted = self.wanted(snapshot) if due else {}
        standing = {name: r for name, r in wanted.items() if r.ttl and self.held.get(name) == r.version}
        self.lifetimes.forget(name for name in due if name not in standing)
        if standing.keys().isdisjoint(due):
            return None
        said = wanted.values() if self.whole else (r for name, r in standing.items() if name in due)
        send = Send(self.type_url, nonce(), self._version, tuple(said), ttl=True, heartbeat=True, bare=self.bare_beats)
        self.nonce, self.outstanding = send.nonce, send
        self.lifetimes.sent(send, now)
        return send

    def would_send(self, snapshot: TypeSnapshot) -> bool:
        """Whether there is room for a response and something to put in it, rather than only what is parked."""
        if self.outstanding is not None or self.in_sync(snapshot):
            return False
        return self._reopened or bool(self.fresh(self.differences(snapshot)))

    def _batch(self, wanted: Mapping[str, Resource], keep: Callable[[], bool]) -> Changes:
        """Fresh changes first, alone: a refused resource must not spoil the others' way.

        When something that was refused has changed or gone, the rest of that refusal gets one more try.
        """
        self._lift(wanted)
        removals = self._removals(wanted)
        if removals and not self.whole and keep():  # a full set has in it already what must stay
            removals = [name for name in removals if name not in self.held]
        changes = {**self._updates(wanted), **dict.fromkeys(removals)}
        fresh = self.fresh(changes)
        if fresh:
            return changes if self.whole else fresh
        return changes if self._reopened else {}

    def fresh(self, changes: Changes) -> Changes:
        """Without what was refused as it is."""
        return {name: r for name, r in changes.items() if self.refused.get(name) != (r.version if r else UNSURE)}

    def _lacking(self, changes: Changes) -> Changes:
        """What the client has in no version, and what it asked to be told of again."""
        return {name: resource for name, resource in changes.items() if self.held.get(name, UNSURE) == UNSURE}

    def _lift(self, wanted: Mapping[str, Resource]) -> None:
        for name, version in list(self.refused.items()):
            resource = wanted.get(name)
            if version != (resource.version if resource else UNSURE):
                self._pardon(name)

    def _pardon(self, name: str) -> None:
        if self.refused.pop(name, None) is not None:
            self._reopened = True

    def _updates(self, wanted: Mapping[str, Resource]) -> Changes:
        held = self.held
        return {name: resource for name, resource in wanted.items() if held.get(name) != resource.version}

    def _sending(self, send: Send, batch: Changes) -> Send:
        removals = [name for name, resource in batch.items() if resource is None]
        if self.ttl and any(resource.ttl for resource in send.resources):
            send = replace(send, ttl=True)
        self._version = send.version
        self._claims = {r.name: r.version for r in send.resources} | dict.fromkeys(removals, UNSURE)
        self.held.update((r.name, r.version) for r in send.resources)
        for name in removals:
            self.held.pop(name, None)
        self.nonce, self.outstanding, self.sent = send.nonce, send, batch
        self.asked = self.answer_empty = False
        self._in_sync_at = None
        return send

    def _view(self, snapshot: TypeSnapshot, keep: Callable[[], bool]) -> Mapping[str, Resource]:
        return self.wanted(snapshot)

    @abstractmethod
    def _removals(self, wanted: Mapping[str, Resource]) -> list[str]:
        """Names whose absence the client must be told."""

    @abstractmethod
    def _compose(self, nonce: str, snapshot: TypeSnapshot, wanted: Mapping[str, Resource], batch: Changes) -> Send: ...


def apart(batch: Changes) -> Changes:
    """What is in files on the node goes alone, and last: where one is missing Envoy refuses the whole response."""
    in_files = [name for name in batch if name.startswith(NODE_FILES)]
    if not in_files:
        return batch
    rest = {name: resource for name, resource in batch.items() if not name.startswith(NODE_FILES)}
    return rest or {in_files[0]: batch[in_files[0]]}
