"""Where the newest snapshot is. Publishing sets a flag at every stream and returns: nothing queues, nothing locks."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog
from envoy.config.core.v3.base_pb2 import Node as NodeMessage

from xds_server.ads.board import Board, NodeRow
from xds_server.ads.events import Acked, Nacked
from xds_server.ads.views import Trial, Views
from xds_server.resources import Snapshot

log = structlog.get_logger(__name__)

Listener = Callable[[NodeRow, Acked | Nacked], None]
"""Called on the loop with the row as it is after the event; must not block."""


async def always() -> bool:
    return True


class Hub:
    """One process's newest snapshot and the streams that serve it. Belongs to one event loop.

    `current`: asked when a stream is opened; False if this process may be behind another one, and then a client that
    brings something else along is left as it is.
    """

    def __init__(self, board: Board | None = None) -> None:
        self.board = board or Board()
        self.views = Views()
        self.current: Callable[[], Awaitable[bool]] = always
        self._slots: set[asyncio.Event] = set()
        self._listeners: list[Listener] = []

    @property
    def snapshot(self) -> Snapshot | None:
        """What every node gets that no wave has taken."""
        return self.views.published

    def view(self, node: NodeMessage) -> Snapshot | None:
        """What that node is to have now; None for nothing new."""
        return self.views.choose(node).view

    def publish(self, snapshot: Snapshot, trial: Trial | None = None) -> None:
        """Newest wins: a stream that was still busy with an older snapshot goes on with this one (statement 58).

        `trial`: what some nodes get in its place.
        """
        self.views.publish(snapshot, trial)
        for slot in self._slots:
            slot.set()

    @contextmanager
    def slot(self) -> Iterator[asyncio.Event]:
        """A flag that publishing sets, for as long as the context lasts."""
        slot = asyncio.Event()
        self._slots.add(slot)
        try:
            yield slot
        finally:
            self._slots.discard(slot)

    async def published(self) -> Snapshot:
        """Wait for the first snapshot."""
        with self.slot() as slot:
            while (snapshot := self.snapshot) is None:
                await slot.wait()
                slot.clear()
        return snapshot

    async def converged(self, target: Snapshot | int, timeout: float) -> tuple[NodeRow, ...]:  # noqa: ASYNC109
        """Wait until every connected node has has `target`; those still behind after `timeout` seconds."""
        return await self.board.converged(target, timeout)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have every ACK and NACK told to `listener`; the result ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def tell(self, row: NodeRow, event: Acked | Nacked) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(row, event)
            except Exception:  # what others do with the news must not end the node's stream
                log.exception("a listener to xDS events failed", node=row.id)
