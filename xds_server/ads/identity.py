"""Who a client is and what it may call: the one gate before every method of the xDS server.

Over TLS a client is what its certificate says: `spiffe://DOMAIN/node/ID` or `spiffe://DOMAIN/operator/NAME`, the only
URI among its subject alternative names (X.509-SVID, section 2). Without TLS, which is on this machine unless somebody
took the risk of more, a client has no name and is trusted like the user who runs the control plane.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import grpc
import structlog

from xds_server.ads.events import Reject

log = structlog.get_logger(__name__)

TRUST_DOMAIN: Final = "tollhouse"


class Access(Enum):
    """Who may call a method."""

    OPEN = "whoever got through the handshake"
    NODE = "a node, as itself"
    READER = "an operator, or a node about itself"


@dataclass(frozen=True, slots=True)
class Peer:
    """One client. `local`: without TLS, so that it may be any node and read about all."""

    node: str | None = None
    operator: bool = False
    local: bool = False

    def refuse(self, node: str) -> Reject | None:
        """For each request that carries a node: nobody speaks for another one. An empty `node` claims nothing."""
        if self.local or not node or node == self.node:
            return None
        return Reject("PERMISSION_DENIED", f"the client's certificate is not that of node {node!r}")

    def may_read(self, node: str) -> bool:
        """Whether it may be told the status of this node."""
        return self.local or self.operator or node == self.node

    def may_call(self, access: Access) -> bool:
        if access is Access.OPEN or self.local or self.node is not None:
            return True
        return access is Access.READER and self.operator


LOCAL: Final = Peer(local=True)


class Unnamed(ValueError):  # noqa: N818 - what the client is
    """A certificate that does not say, or not unmistakably, whose it is."""


def identify(uris: Sequence[bytes], domain: str) -> Peer:
    """Whose certificate it is, by the URIs among its subject alternative names. Raises Unnamed."""
    if len(uris) != 1:
        raise Unnamed(f"the client's certificate has {len(uris)} URIs as names, not the one that says whose it is")
    uri = uris[0].decode("ascii", "replace")
    scheme, _, rest = uri.partition("://")
    kind, _, name = rest.removeprefix(f"{domain}/").partition("/")
    if scheme == "spiffe" and rest.startswith(f"{domain}/") and name and "/" not in name:
        if kind == "node":
            return Peer(node=name)
        if kind == "operator":
            return Peer(operator=True)
    raise Unnamed(f"{uri!r} is neither spiffe://{domain}/node/ID nor spiffe://{domain}/operator/NAME")


_calling: ContextVar[Peer] = ContextVar("calling")


def caller() -> Peer:
    """Who makes the call that is being answered. Raises LookupError outside of a call that the gate let through."""
    return _calling.get()


Behaviour = Callable[[Any, Any], Awaitable[Any]]


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no type information
    """Lets a call through to its handler if the method is on the list and the client may call it.

    `methods` has the exact paths, "/service/Method": what is not there is UNIMPLEMENTED, also if a handler exists, and
    no path is normalised (one without its slash went past such a list in CVE-2026-33186). `domain` None: without TLS.
    """

    def __init__(self, methods: Mapping[str, Access], domain: str | None) -> None:
        self._methods, self._domain = methods, domain

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        access = self._methods.get(details.method)
        if access is None:
            return None
        handler = await continuation(details)
        return handler and _wrapped(handler, lambda behaviour: self._guarded(behaviour, details.method, access))

    def _guarded(self, behaviour: Behaviour, method: str, access: Access) -> Behaviour:
        async def guarded(request: Any, context: Any) -> Any:
            _calling.set(await self._admit(context, method, access))
            return await behaviour(request, context)

        return guarded

    async def _admit(self, context: Any, method: str, access: Access) -> Peer:
        """Ends the call of a client that may not make it."""
        try:
            peer = self._peer(context)
        except Unnamed as error:
            if access is Access.OPEN:
                return Peer()
            await self._refuse(context, method, grpc.StatusCode.UNAUTHENTICATED, str(error))
            raise
        if not peer.may_call(access):
            await self._refuse(context, method, grpc.StatusCode.PERMISSION_DENIED, f"this method is for {access.value}")
        return peer

    def _peer(self, context: Any) -> Peer:
        if self._domain is None:
            return LOCAL
        # Not x509_subject_alternative_name: a host name there looks the same as a URI.
        return identify(context.auth_context().get("peer_uri", ()), self._domain)

    async def _refuse(self, context: Any, method: str, code: Any, reason: str) -> None:
        log.warning("xds call refused", peer=context.peer(), method=method, reason=reason)
        await context.abort(code, reason)


def _wrapped(handler: Any, wrap: Callable[[Behaviour], Behaviour]) -> Any:
    """The handler with its one behaviour, a coroutine function, wrapped."""
    kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
    kind = kinds[2 * handler.request_streaming + handler.response_streaming]
    return handler._replace(**{kind: wrap(getattr(handler, kind))})
