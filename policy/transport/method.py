"""What a transport serves: unary gRPC methods, as functions of bytes that know nothing of sockets or streams.

Two servers carry them, and a method cannot tell which: grpcio's (`policy.transport.grpcio`), which has everything gRPC
has, and ours over libnghttp2 (`policy.transport.fast`), which has unary calls only and costs a small part of it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)


class Call(Protocol):
    """What a method may know of the call that it answers. `grpc.aio.ServicerContext` is one."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller stops waiting; None if it did not say."""

    async def abort(self, code: grpc.StatusCode, details: str = "") -> NoReturn:
        """Ends the call as failed, by raising what the transport catches."""

    def invocation_metadata(self) -> Sequence[tuple[str, Any]]:
        """Names in lower case. Values are strings, but bytes of names that end in `-bin`."""


@dataclass(frozen=True, slots=True)
class Method(Generic[Q, A]):
    """`path`: `/package.Service/Method`. `answer` decides; it ends failed calls by `Call.abort`."""

    path: str
    request: type[Q]
    answer: Callable[[Q, Any], Awaitable[A]]

    async def serve(self, sent: bytes, call: Call) -> bytes:
        """A serialised request to a serialised answer."""
        try:
            request = self.request.FromString(sent)
        except DecodeError:
            await call.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a {self.request.DESCRIPTOR.full_name}")
        answer = await self.answer(request, call)
        return answer.SerializeToString()
