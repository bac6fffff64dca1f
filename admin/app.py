"""The control API as an ASGI application."""

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from admin import metrics
from admin.api import access, audit, credentials, endpoints, explain, health, plan, revisions, rollout, status
from admin.guard import Guard
from admin.problems import ApiError, finding
from admin.service import Service, own_version
from admin.tokens import Tokens

ROUTERS = (
    revisions.router,
    plan.router,
    explain.router,
    rollout.router,
    status.router,
    credentials.router,
    endpoints.router,
    access.router,
    audit.router,
    health.router,
)


class ControlApi(FastAPI):
    """FastAPI with the one security scheme written into its OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        schema = super().openapi()
        scheme = {"type": "http", "scheme": "bearer", "description": "A token of the control API (gwt_…)"}
        schema.setdefault("components", {})["securitySchemes"] = {"token": scheme}
        schema["security"] = [{"token": []}]
        for path in health.OPEN:
            for operation in schema["paths"][path].values():
                operation["security"] = []
        return schema


def create(service: Service, tokens: Tokens, registry: CollectorRegistry) -> FastAPI:
    """Everything but liveness and readiness needs a bearer token. No pages, and nothing is loaded from elsewhere.

    `registry`: what `/metrics` shows; the numbers of the service are added to it.
    """
    app = ControlApi(
        title="Tollhouse control API",
        version=own_version(),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.service = service
    registry.register(metrics.ControlPlane(service))
    app.state.registry = registry
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(Guard, tokens=tokens)
    return app


async def _api_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return error.response(request.state.request_id)


async def _bad_request(request: Request, error: Exception) -> Response:
    """FastAPI's findings. What was sent is not repeated: it may be a secret in the wrong place."""
    if not isinstance(error, RequestValidationError):
        raise error
    found = [finding(_pointer(one["loc"]), str(one["msg"])) for one in error.errors()]
    detail = "the request is not what this operation takes"
    return ApiError(422, "bad_request", detail, errors=found).response(request.state.request_id)


def _pointer(location: tuple[int | str, ...]) -> str:
    inside = location[1:] if location[:1] == ("body",) else location
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in inside)


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    words = {404: ("not_found", "there is no such resource"), 405: ("method_not_allowed", "not with this method")}
    code, detail = words.get(error.status_code, ("error", "the request was refused"))
    return ApiError(error.status_code, code, detail, headers=error.headers).response(request.state.request_id)
