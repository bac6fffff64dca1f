"""Stand-ins for upstreams: they answer with what they saw, and misbehave when asked to.

GET /any?status=503     answers with that status
GET /any?delay=2s       waits first
GET /health             200
"""

import asyncio
import socket
from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway.scalars import parse_duration

MAX_DELAY_SECONDS = 60.0
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def app(names: Mapping[int, str]) -> Starlette:
    """`names`: which upstream each port stands in for."""

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def echo(request: Request) -> Response:
        try:
            delay, status = knobs(request.query_params)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        await asyncio.sleep(delay)
        return JSONResponse(seen(request, names), status)

    return Starlette(routes=[Route("/health", health), Route("/{rest:path}", echo, methods=METHODS)])


def seen(request: Request, names: Mapping[int, str]) -> dict[str, object]:
    port = request.scope["server"][1]
    return {
        "upstream": names.get(port, f"port {port}"),
        "method": request.method,
        "path": request.url.path,
        "query": request.url.query,
        "headers": dict(request.headers),
    }


def knobs(query: Mapping[str, str]) -> tuple[float, int]:
    """Seconds to wait, and the status to answer with. Raises ValueError."""
    delay = min(parse_duration(query["delay"]) / 1000, MAX_DELAY_SECONDS) if "delay" in query else 0.0
    status = int(query.get("status", "200"))
    if not 200 <= status <= 599:
        raise ValueError("status must be from 200 to 599")
    return delay, status


def listen(address: str, port: int) -> socket.socket:
    """A listening socket. Several demos on one machine may share a port: whichever answers answers the same."""
    server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    server.bind((address, port))
    server.listen(256)
    server.setblocking(False)
    return server
