"""Errors as RFC 9457 problem details (`application/problem+json`).

`code` is stable. `errors` lists every finding: `code severity message help path pointer file line column`, null where
there is none. What went wrong inside is never told; the log has it under the same `request_id`.
"""

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from gateway import render
from gateway.places import Where
from gateway.problems import Problem

MEDIA_TYPE: Final = "application/problem+json"


class ApiError(Exception):
    """An answer that is not success. `extra` adds members (RFC 9457 section 3.2), e.g. the current `head`."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Iterable[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.extra = extra

    def response(self, request_id: str) -> Response:
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "errors": list(self.errors),
            "request_id": request_id,
            **self.extra,
        }
        return Response(json.dumps(body), self.status, self.headers, MEDIA_TYPE)


def invalid(problems: Iterable[Problem], where: Where | None = None) -> ApiError:
    """422 for a document: nothing of it was stored."""
    errors = render.as_json(problems, where)
    wrong = sum(error["severity"] == "error" for error in errors)
    return ApiError(422, "invalid", f"{wrong} problem{'' if wrong == 1 else 's'}: nothing was stored", errors=errors)


def refused(field: str, message: str, help_: str = "") -> ApiError:
    """422 for one member of a request, named by its JSON Pointer."""
    return ApiError(422, "invalid", message, errors=[finding(field, message, help_)])


def finding(pointer: str, message: str, help_: str = "", code: str = "request") -> dict[str, Any]:
    """A finding about a request rather than a document."""
    path = pointer.lstrip("/").replace("/", ".")
    place = {"path": path, "pointer": pointer, "file": None, "line": None, "column": None}
    return {"code": code, "severity": "error", "message": message, "help": help_, **place}


def not_found(what: str) -> ApiError:
    return ApiError(404, "not_found", f"there is no {what}")


def unavailable(reason: str = "the database cannot be reached; nothing is known to have changed") -> ApiError:
    return ApiError(503, "database_unavailable", reason, headers={"retry-after": "2"})
