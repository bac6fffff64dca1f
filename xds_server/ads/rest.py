"""xDS by polling: `POST /v3/discovery:clusters` and its like, JSON in, JSON out (Envoy's `api_type: REST`).

A poll is answered with all that the client asks for, with 304 when it has that already (statement 56), or, with
`Prefer: wait=30` (RFC 7240) or `?wait=30`, as soon as it has something else than it said, 304 after that many seconds.
There is no order between types, no removal that waits and no row on the board: who polls is not told apart from who
asks once. A stream does all of that better; this is for clients that cannot hold one open.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import structlog
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from google.protobuf.any_pb2 import Any
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from xds_server.ads.hub import Hub
from xds_server.ads.identity import LOCAL, Peer
from xds_server.ads.servicer import Pace
from xds_server.ads.stream import Limits
from xds_server.ads.substream import WILDCARD
from xds_server.resources import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    ROUTES,
    RUNTIME,
    SCOPED_ROUTES,
    SECRET,
    Resource,
    TypeSnapshot,
)

log = structlog.get_logger(__name__)

PATHS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "/v3/discovery:listeners": LISTENER,
        "/v3/discovery:routes": ROUTES,
        "/v3/discovery:scoped-routes": SCOPED_ROUTES,
        "/v3/discovery:clusters": CLUSTER,
        "/v3/discovery:endpoints": ENDPOINTS,
        "/v3/discovery:secrets": SECRET,
        "/v3/discovery:runtime": RUNTIME,
        "/v3/discovery:extension_configs": EXTENSION,
    }
)
"""Where the `google.api.http` option of each service's Fetch method puts it."""

LONGEST: Final = 60
"""Seconds for which a poll is held at most."""

_WAIT: Final = re.compile(r"\bwait=(\d{1,4})\b")

Authorise = Callable[[Request], Peer]
"""Who makes a request, by its connection."""


class Refused(Exception):  # noqa: N818 - an outcome
    """A request that is answered with this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def local(request: Request) -> Peer:
    """Without TLS: trusted like the user who runs the control plane, as on the gRPC port."""
    return LOCAL


def app(hub: Hub, *, authorise: Authorise = local, limits: Limits | None = None, pace: Pace | None = None) -> Starlette:
    """The same snapshots as the gRPC server's, and the same bounds on what one request may ask for."""
    limits, pace = limits or Limits(), pace or Pace()

    def route(path: str, type_url: str) -> Route:
        async def poll(request: Request) -> Response:
            try:
                asked = await _read(request, type_url, limits, pace)
                refusal = authorise(request).refuse(asked.node.id)
                if refusal is not None:
                    raise Refused(403, refusal.message)
                answer = await _changed(hub, asked, type_url, _wait(request))
            except Refused as refused:
                return PlainTextResponse(f"{refused}\n", refused.status)
            return Response(status_code=304) if answer is None else Response(answer, media_type="application/json")

        return Route(path, poll, methods=["POST"])

    return Starlette(routes=[route(path, type_url) for path, type_url in PATHS.items()])


async def _read(request: Request, type_url: str, limits: Limits, pace: Pace) -> DiscoveryRequest:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > pace.request_bytes:
            raise Refused(413, f"a request may have {pace.request_bytes} bytes")
    try:
        asked: DiscoveryRequest = Parse(data, DiscoveryRequest(), ignore_unknown_fields=True)
    except (ParseError, UnicodeDecodeError):
        raise Refused(400, "not a discovery request in JSON") from None
    if not asked.node.id:
        raise Refused(400, "a request must carry node.id")
    if asked.type_url not in ("", type_url):
        raise Refused(400, f"this path serves {type_url} only")
    if len(asked.resource_names) > limits.names:
        raise Refused(400, f"more than {limits.names} resource names of one type")
    return asked


def _wait(request: Request) -> int:
    """How long the client would wait for news, in seconds."""
    found = _WAIT.search(request.headers.get("prefer", "")) or _WAIT.search(request.url.query)
    return min(LONGEST, int(found[1])) if found else 0


async def _changed(hub: Hub, asked: DiscoveryRequest, type_url: str, wait: int) -> str | None:
    """What the client does not have yet; None if that is nothing. Raises Refused before there is a snapshot."""
    with hub.slot() as wake:
        try:
            async with asyncio.timeout(wait or None):
                while True:
                    wake.clear()
                    snapshot = hub.view(asked.node)
                    resources = snapshot.types[type_url] if snapshot is not None else None
                    if resources is not None and (answer := _answer(asked, resources)) is not None:
                        return answer
                    if not wait and resources is None:  # an empty answer would delete what the client has
                        raise Refused(503, "there is no snapshot yet")
                    if not wait:
                        return None
                    await wake.wait()
        except TimeoutError:
            return None


def _answer(asked: DiscoveryRequest, resources: TypeSnapshot) -> str | None:
    found = wanted(asked, resources)
    version = TypeSnapshot(resources.type_url, found).version
    if asked.version_info == version:
        return None
    response = DiscoveryResponse(
        version_info=version,
        type_url=resources.type_url,
        resources=[Any(type_url=r.type_url, value=r.data) for r in found.values()],
    )
    return MessageToJson(response, preserving_proto_field_name=True, indent=None)


def wanted(asked: DiscoveryRequest, resources: TypeSnapshot) -> Mapping[str, Resource]:
    """No names mean everything (statement 21); so does `*` among them."""
    names = set(asked.resource_names)
    if not names or WILDCARD in names:
        return resources.resources
    return {name: r for name, r in resources.resources.items() if name in names}
