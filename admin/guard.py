"""What every request passes before any route sees it: a request id, a token, a bounded body. Denied by default.

It stands in front of routing, so a route that is added later is guarded without a word, and what is not there is not
told apart from what is by somebody who has no token.
"""

import time
import traceback
import uuid
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin import roles
from admin.api.health import OPEN
from admin.problems import ApiError, unavailable
from admin.roles import READS
from admin.tokens import Tokens
from db.engine import Unavailable
from db.rows import TokenRow

log = structlog.get_logger(__name__)

LARGEST_BODY: Final = 16 << 20  # bytes
REQUEST_ID: Final = "x-request-id"


class Guard:
    def __init__(self, app: ASGIApp, tokens: Tokens, largest_body: int = LARGEST_BODY) -> None:
        self._app = app
        self._tokens = tokens
        self._largest = largest_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(scope, send)
        try:
            await self._admit(request)
            await self._app(scope, self._bounded(request, receive), request.send)
            await request.refuse()
        except ApiError as error:
            await request.answer(error)
        except Unavailable as error:
            log.warning("database_unavailable", reason=str(error), request_id=request.id)
            await request.answer(unavailable())
        except Exception as error:
            # as text, without the frames' variables: they may hold the caller's token or a new key
            trace = "".join(traceback.format_exception(error))
            log.error("request_crashed", method=request.method, route=request.route, request_id=request.id, trace=trace)
            await request.answer(ApiError(500, "internal", "a fault of Tollhouse; its log says more"))
        finally:
            request.log()

    async def _admit(self, request: "_Request") -> None:
        if request.path in OPEN and request.method in READS:
            return
        reads_only = request.method in READS
        caller = await self._tokens.authenticate(request.headers.get("authorization"), reads_only=reads_only)
        request.caller = request.scope.setdefault("state", {})["caller"] = caller
        if not roles.may(caller.role, request.method, request.path):
            raise ApiError(403, "forbidden", f"the token {caller.name!r} is of a {caller.role}, who may not do that")

    def _bounded(self, request: "_Request", receive: Receive) -> Receive:
        """The body, refused when it announces or turns out to be too long."""
        announced = request.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > self._largest:
            raise self._too_large()
        seen = 0

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._largest:
                request.refusal = self._too_large()
                raise request.refusal
            return message

        return bounded

    def _too_large(self) -> ApiError:
        return ApiError(413, "too_large", f"a request may have {self._largest} bytes", headers={"connection": "close"})


class _Request:
    """One request on its way: what it is called, and whether an answer has begun."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.id = uuid.uuid4().hex
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers = Headers(scope=scope)
        self.caller: TokenRow | None = None
        self.status = 0
        self.refusal: ApiError | None = None  # decided while the body was read: FastAPI would answer 400 for it
        self._send = send
        self._began = time.monotonic()
        scope.setdefault("state", {})["request_id"] = self.id

    async def send(self, message: Message) -> None:
        if self.refusal is not None:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID] = self.id
        await self._send(message)

    async def refuse(self) -> None:
        error, self.refusal = self.refusal, None
        if error is not None:
            await self.answer(error)

    async def answer(self, error: ApiError) -> None:
        if self.status == 0:
            await error.response(self.id)(self.scope, _nothing, self.send)

    @property
    def route(self) -> str | None:
        """The pattern that matched, not the path: strangers write anything into a path, a key included."""
        return getattr(self.scope.get("route"), "path", None)

    def log(self) -> None:
        log.info(
            "request",
            method=self.method,
            route=self.route,
            status=self.status,
            actor=self.caller.name if self.caller else None,
            milliseconds=round((time.monotonic() - self._began) * 1000, 1),
            request_id=self.id,
        )


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
