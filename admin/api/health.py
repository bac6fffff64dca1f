"""Is it alive, can it serve, what is it, how is it doing. Only the first two are answered to everybody."""

from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from admin.api.common import ServiceOf
from admin.service import own_version

router = APIRouter(tags=["health"])

OPEN = frozenset({"/livez", "/readyz", "/healthz"})
"""Paths that need no token. They say one word."""


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The event loop runs."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(service: ServiceOf) -> JSONResponse:
    """It has a snapshot to serve (or has read that nothing was applied yet); stays so when the database goes away."""
    return JSONResponse({"status": "ok" if service.ready else "starting"}, 200 if service.ready else 503)


@router.get("/healthz")
async def healthz(service: ServiceOf) -> JSONResponse:
    """The same as `/readyz`."""
    return await readyz(service)


@router.get("/version")
async def version() -> dict[str, str]:
    return {"version": own_version()}


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Prometheus text format."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> dict[str, Any]:
    schema: dict[str, Any] = request.app.openapi()
    return schema
