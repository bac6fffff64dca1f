"""What both decision RPCs share: the deadline they must keep, and how they fail."""

from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, TypeVar

import grpc
import structlog

from policy.faults import where
from policy.transport.method import Call
from policy.unavailable import Unavailable

T = TypeVar("T")

log = structlog.get_logger(__name__)

MARGIN: Final = 0.002  # seconds for our answer to travel back


async def guarded(call: Call, decide: Callable[[float], Awaitable[T]], longest: float) -> T:
    """`decide`'s answer. It gets the seconds that it may take: what is left of the deadline, at most `longest`.

    Work that is late already is not begun. Unavailable and any mistake of ours end the RPC as UNAVAILABLE: gRPC would
    say UNKNOWN for a mistake and repeat the exception's text to the caller.
    """
    remaining: float | None = call.time_remaining()
    budget = longest if remaining is None else min(longest, remaining - MARGIN)
    if budget <= 0:
        await refuse(call, grpc.StatusCode.DEADLINE_EXCEEDED, "the request came too late")
    try:
        return await decide(budget)
    except Unavailable as error:
        detail = str(error)
    except Exception as error:
        log.error("decision_failed", **where(error))
        detail = "no decision could be made"
    return await refuse(call, grpc.StatusCode.UNAVAILABLE, detail)


async def refuse(call: Call, code: grpc.StatusCode, detail: str) -> NoReturn:
    await call.abort(code, detail)
    raise AssertionError("abort returned")
