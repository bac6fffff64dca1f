"""envoy.service.rate_limit_quota.v3.RateLimitQuotaService: each Envoy is told what it may let through by itself.

One stream for each Envoy. Shares of one bucket must be given out by one process: with several, the one that holds the
lease serves (and says so in its health), the others refuse. Envoy tries again every five seconds, with shares that
live for fifteen.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final

import grpc
import structlog
from envoy.service.rate_limit_quota.v3.rlqs_pb2 import RateLimitQuotaResponse, RateLimitQuotaUsageReports

from gateway import quotas
from policy import rpc
from policy.faults import where
from policy.metrics import Metrics
from policy.quota import message
from policy.quota.board import Board, BucketKey, Limits, Telling, Told, Usage
from policy.view import Views

NAME: Final = quotas.SERVICE
PULSE: Final = 0.5
"""Seconds between looks at what no report brings about."""
log = structlog.get_logger(__name__)


class Stream:
    """One Envoy: what is to be told it next. The newest word on a bucket takes the place of older ones."""

    def __init__(self) -> None:
        self._next: dict[BucketKey, Told] = {}
        self._changed = asyncio.Event()
        self._over = False

    def tell(self, told: dict[BucketKey, Told]) -> None:
        self._next |= told
        self._changed.set()

    def end(self) -> None:
        self._over = True
        self._changed.set()

    async def words(self) -> AsyncIterator[dict[BucketKey, Told]]:
        """Until `end`."""
        while not self._over:
            await self._changed.wait()
            self._changed.clear()
            told, self._next = self._next, {}
            if told:
                yield told


class RateLimitQuota:
    """`serving`: whether this process is the one that shares out; the streams of one that is not any more end."""

    def __init__(
        self, views: Views, metrics: Metrics, *, serving: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._views = views
        self._metrics = metrics
        self._clock = clock
        self._board: Board[Stream] = Board()
        self._streams: set[Stream] = set()
        self._limits: Limits = {}
        self.serving = serving

    def handler(self) -> Any:
        method = grpc.stream_stream_rpc_method_handler(
            self.stream_rate_limit_quotas,
            request_deserializer=RateLimitQuotaUsageReports.FromString,
            response_serializer=RateLimitQuotaResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(NAME, {"StreamRateLimitQuotas": method})

    def serve(self, serving: bool) -> None:
        """What others gave out meanwhile is not known here: Envoys report again, and it begins anew."""
        self.serving = serving
        if not serving:
            self._board.clear()
            for stream in self._streams:
                stream.end()

    async def run(self) -> None:
        """For ever: shares that expire return, and another gateway's limits come into force."""
        while True:
            await asyncio.sleep(PULSE)
            try:
                self._beat()
            except Exception as error:
                log.error("quotas_failed", **where(error))

    def _beat(self) -> None:
        self._follow()
        self._tell(self._board.tick(self._clock()))
        self._metrics.quota_buckets(len(self._board))

    def _follow(self) -> None:
        view = self._views.current
        if view is not None and view.quotas is not self._limits:
            self._limits = view.quotas
            self._tell(self._board.changed(view.quotas, self._clock()))

    async def stream_rate_limit_quotas(
        self, messages: AsyncIterator[RateLimitQuotaUsageReports], context: Any
    ) -> AsyncIterator[RateLimitQuotaResponse]:
        await self._refuse_unless_serving(context)
        stream = Stream()
        self._streams.add(stream)
        reading = asyncio.create_task(self._read(stream, messages))
        try:
            async for told in stream.words():
                yield message.response(told)
            await self._refuse_unless_serving(context)
        finally:
            self._streams.discard(stream)
            self._tell(self._board.leave(stream, self._clock()))
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def _refuse_unless_serving(self, context: Any) -> None:
        if not self.serving or self._views.current is None:
            await rpc.refuse(context, grpc.StatusCode.UNAVAILABLE, "quotas are not shared out here")

    async def _read(self, stream: Stream, messages: AsyncIterator[RateLimitQuotaUsageReports]) -> None:
        domain = ""
        try:
            async for reports in messages:
                domain = reports.domain or domain  # it need only be in the first message
                if domain == quotas.DOMAIN and self.serving:
                    self._heard(stream, list(message.usages(reports)))
        except Exception as error:
            log.error("quotas_failed", **where(error))
        finally:
            stream.end()

    def _heard(self, stream: Stream, usages: list[Usage]) -> None:
        self._follow()
        self._tell(self._board.report(stream, usages, self._clock()))
        for usage in usages:
            limit = self._board.limit_of(usage.bucket)
            if limit is not None:
                self._metrics.quota(limit, usage.allowed, usage.denied)

    def _tell(self, telling: Telling[Stream]) -> None:
        for stream, told in telling.items():
            stream.tell(told)
