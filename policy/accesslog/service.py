"""envoy.service.accesslog.v3.AccessLogService: counts what the requests of every Envoy came to.

Envoy sends its entries in batches, waits for nobody and drops them when they are not taken; so do we when there are too
many. At most once, then: a process that dies takes with it what it has counted since its last write.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import grpc
import structlog
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse

from policy.accesslog.message import entry
from policy.accesslog.tally import Cell, Key, Tally
from policy.faults import where
from policy.metrics import Metrics
from policy.unavailable import Unavailable

NAME: Final = "envoy.service.accesslog.v3.AccessLogService"
WRITE_EVERY: Final = 5.0
"""Seconds between writes, each of one statement."""

log = structlog.get_logger(__name__)


class AccessLog:
    """`write`: stores totals of cells in the place of earlier ones; raises Unavailable."""

    def __init__(
        self,
        write: Callable[[Mapping[Key, Cell]], Awaitable[None]],
        metrics: Metrics,
        tally: Tally | None = None,
        *,
        every: float = WRITE_EVERY,
    ) -> None:
        self._write, self._metrics, self._every = write, metrics, every
        self._tally = tally or Tally()
        self._over = asyncio.Event()

    def handler(self) -> Any:
        method = grpc.stream_unary_rpc_method_handler(
            self.stream_access_logs,
            request_deserializer=StreamAccessLogsMessage.FromString,
            response_serializer=StreamAccessLogsResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(NAME, {"StreamAccessLogs": method})

    async def stream_access_logs(
        self, messages: AsyncIterator[StreamAccessLogsMessage], context: Any
    ) -> StreamAccessLogsResponse:
        """Until Envoy ends it or this process goes: then Envoy opens another one elsewhere."""
        reading = asyncio.ensure_future(self._read(messages))
        ending = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, ending):
                task.cancel()
            await asyncio.gather(reading, ending, return_exceptions=True)
        return StreamAccessLogsResponse()

    async def run(self) -> None:
        """Writes, for ever."""
        while True:
            await asyncio.sleep(self._every)
            with suppress(Unavailable):  # what is kept is written the next time
                await self.flush()

    def end(self) -> None:
        """All streams end: they would outlast any drain."""
        self._over.set()

    async def flush(self) -> None:
        """Raises Unavailable; then all is kept as it was."""
        taken = self._tally.take()
        if taken:
            await self._write(taken)
            self._tally.wrote(taken, time.time())

    async def _read(self, messages: AsyncIterator[StreamAccessLogsMessage]) -> None:
        node = ""
        try:
            async for message in messages:
                node = message.identifier.node.id or node  # it is in the first message only
                self._count(node, message)
        except Exception as error:
            log.error("access_log_failed", **where(error))

    def _count(self, node: str, message: StreamAccessLogsMessage) -> None:
        entries = [entry(logged) for logged in message.http_logs.log_entry]
        lost = self._tally.lost
        self._tally.add(node, entries, time.time())
        self._metrics.logged(len(entries), self._tally.lost - lost)
