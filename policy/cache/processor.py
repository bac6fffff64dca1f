"""envoy.service.ext_proc.v3.ExternalProcessor: one stream for each request of a route that has a cache.

Envoy sends the request's headers and waits. What is kept is the answer; else the request goes on, the answer's headers
come by, and its body where it may be kept. The stream ends as soon as there is nothing more to say, and Envoy goes on
alone. Whatever fails here is a miss (`failure_mode_allow`).
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import structlog
from envoy.service.ext_proc.v3 import external_processor_pb2 as wire

from gateway import caching
from gateway.caching import Terms
from policy import rpc
from policy.cache import answer, rules
from policy.cache.answer import Answer
from policy.cache.library import Library
from policy.cache.message import Request, Response, request_of, response_of
from policy.faults import where
from policy.metrics import Metrics

NAME: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
MOST_OPEN: Final = 256
"""Streams that wait for an upstream. Authorization and limits share their server: slow upstreams must not fill it."""
MOST_HELD: Final = 64 * 2**20
"""Bytes of bodies that are not whole yet."""

Messages = AsyncIterator[wire.ProcessingRequest]
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Body:
    """What has come of a body. `whole`: the last of it has."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    whole: bool = False

    def add(self, body: wire.HttpBody) -> int:
        self.chunks.append(body.body)
        self.size += len(body.body)
        self.whole = body.end_of_stream
        return len(body.body)


class ResponseCache:
    def __init__(self, library: Library, metrics: Metrics) -> None:
        self._library = library
        self._metrics = metrics
        self._open = 0
        self._held = 0

    def handler(self) -> Any:
        method = grpc.stream_stream_rpc_method_handler(
            self.process,
            request_deserializer=wire.ProcessingRequest.FromString,
            response_serializer=Answer.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(NAME, {"Process": method})

    async def process(self, messages: Messages, context: Any) -> AsyncIterator[Answer]:
        terms = _terms(context)
        if terms is None:
            await rpc.refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "the terms of the cache are required")
        try:
            async for said in self._talk(terms, messages):
                yield said
        except Exception as error:
            log.error("cache_failed", **where(error))
            await rpc.refuse(context, grpc.StatusCode.UNAVAILABLE, "the cache failed")

    async def _talk(self, terms: Terms, messages: Messages) -> AsyncIterator[Answer]:
        first = await anext(messages, None)
        if first is None or not first.HasField("request_headers"):
            return
        request = request_of(first.request_headers)
        looks_up = rules.looks_up(request)
        found = await self._library.find(terms, request) if looks_up else None
        self._metrics.cache(terms.route, "hit" if found else "miss" if looks_up else "bypass")
        if found is not None:
            yield answer.hit(request, found)
            return
        waits = (looks_up and request.method == "GET") or rules.may_change(request)
        has_room = self._open < MOST_OPEN
        if rules.may_change(request) and not has_room:
            await self._library.drop(terms, request)  # nobody will see whether it was done
        yield answer.GO_ON
        if waits and has_room:
            self._open += 1
            try:
                async for said in self._listen(terms, request, messages):
                    yield said
            finally:
                self._open -= 1

    async def _listen(self, terms: Terms, request: Request, messages: Messages) -> AsyncIterator[Answer]:
        message = await anext(messages, None)
        if message is None or not message.HasField("response_headers"):
            return
        response = response_of(message.response_headers)
        if rules.invalidates(request, response):
            await self._library.drop(terms, request)
        lifetime = self._library.lifetime(terms, request, response)
        if not lifetime or not _fits(response, terms):
            yield answer.PASS_HEADERS
            return
        if message.response_headers.end_of_stream:
            await self._library.keep(terms, request, response, b"", lifetime)
            yield answer.PASS_HEADERS
            return
        yield answer.SHOW_BODY
        async for said in self._read(terms, request, response, lifetime, messages):
            yield said

    async def _read(
        self, terms: Terms, request: Request, response: Response, lifetime: int, messages: Messages
    ) -> AsyncIterator[Answer]:
        """Reads the body as it passes. It is kept before its end is let through: who has the answer finds it kept."""
        body = _Body()
        try:
            async for message in messages:
                self._held += body.add(message.response_body)
                if body.size > terms.max_size or self._held > MOST_HELD:
                    yield answer.PASS_BODY
                    return
                if body.whole and rules.is_whole(response, body.size):
                    await self._library.keep(terms, request, response, b"".join(body.chunks), lifetime)
                yield answer.PASS_BODY
                if body.whole:
                    return
        finally:
            self._held -= body.size


def _terms(context: Any) -> Terms | None:
    texts = [value for name, value in context.invocation_metadata() or () if name == caching.METADATA]
    try:
        return caching.read(texts[0]) if len(texts) == 1 else None
    except ValueError:
        return None


def _fits(response: Response, terms: Terms) -> bool:
    """Whether the body may be short enough, as far as the headers say."""
    told = next((value for name, value in response.headers if name == "content-length"), "")
    return not told.isdecimal() or int(told) <= terms.max_size
