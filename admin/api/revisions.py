"""Applying, and what was applied."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path
from starlette.responses import Response

from admin.api import common
from admin.api.common import Actor, Owner, ServiceOf
from admin.apply import Applied, Apply
from admin.problems import ApiError, invalid, not_found, refused
from admin.schemas import ApplyBody, Before, Limit, UndoBody
from admin.stored import objects_of
from admin.undo import Undo, checked
from gateway import effective, render

router = APIRouter(prefix="/v1", tags=["revisions"])


IfMatch = Annotated[str | None, Header(description="The ETag of the head that is to be changed: a revision")]


@router.post("/apply")
async def apply(
    body: ApplyBody, service: ServiceOf, actor: Actor, owner: Owner, if_match: IfMatch = None
) -> dict[str, Any]:
    """Puts files onto the head revision: one new revision, or none at all.

    422 has every problem with its file, line and column; 409 says that the head moved, or whose object it is; 412 that
    the head moved from what `If-Match` says.
    """
    files = [(file.name, file.text) for file in body.files]
    wanted = Apply(
        files,
        body.message,
        body.prune,
        body.dry_run,
        matched(if_match, body.expected_revision),
        body.allow_shrink,
        body.supersede,
        body.git_commit,
        owner,
    )
    try:
        done = await service.applier.apply(actor, wanted)
    except ApiError as error:
        raise unmatched(error, if_match) from error
    return applied(done, dry_run=body.dry_run)


@router.post("/undo")
async def undo(body: UndoBody, service: ServiceOf, actor: Actor, if_match: IfMatch = None) -> dict[str, Any]:
    """The content of an earlier revision as a new one, by the gate and the way of any other."""
    expected = matched(if_match, body.expected_revision)
    try:
        done = await service.undoer.undo(actor, Undo(body.revision, body.message, body.supersede, expected))
    except ApiError as error:
        raise unmatched(error, if_match) from error
    return applied(done, dry_run=False)


def matched(if_match: str | None, expected: int | None) -> int | None:
    """The revision that the caller says is the head. Raises ApiError 422."""
    if if_match is None or if_match == "*":
        return expected
    number = if_match.strip().strip('"')
    if not (number.isascii() and number.isdecimal() and len(number) < 19):
        raise refused("/if-match", 'a strong ETag of the head is needed: a revision, as in "218"')
    if expected not in (None, int(number)):
        raise refused("/expected_revision", "it is not the revision that If-Match names")
    return int(number)


def unmatched(error: ApiError, if_match: str | None) -> ApiError:
    """RFC 9110 section 13.1.1: a head that is another one is 412 to whoever made it a condition of the request."""
    if if_match is None or error.code != "conflict":
        return error
    return ApiError(412, "precondition_failed", error.detail, errors=error.errors, **error.extra)


def applied(done: Applied, *, dry_run: bool) -> dict[str, Any]:
    return {
        "revision": done.revision,
        "version": done.version,
        "changed": [{"kind": kind, "name": name, "action": action} for kind, name, action in done.changed],
        "problems": render.as_json(done.problems),
        "dry_run": dry_run,
    }


@router.get("/revisions")
async def history(service: ServiceOf, limit: Limit = 50, before: Before = None) -> dict[str, Any]:
    """Newest first."""
    rows = await service.history(limit, before)
    return {
        "revisions": [common.revision(row) for row in rows],
        "next": rows[-1].number if len(rows) == limit and rows[-1].number > 1 else None,
    }


@router.get("/revisions/head")
async def head(service: ServiceOf, response: Response) -> dict[str, Any]:
    """The newest revision. Its number is the ETag that `If-Match` of an apply or undo takes. 404 before the first."""
    rows = await service.history(1, None)
    if not rows:
        raise not_found("revision yet")
    response.headers["etag"] = f'"{rows[0].number}"'
    return common.revision(rows[0])


@router.get("/revisions/{number}")
async def revision(number: Annotated[int, Path(ge=1)], service: ServiceOf) -> dict[str, Any]:
    """One revision with all its objects."""
    row, objects = await service.revision(number)
    return {
        **common.revision(row),
        "objects": [
            {
                "kind": item.kind,
                "name": item.name,
                "owner": item.owner,
                "labels": dict(item.labels),
                "file": item.file,
                "body": item.body,
            }
            for item in objects
        ],
    }


@router.get("/revisions/{number}/routes/{module}/{route}")
async def effective_route(
    number: Annotated[int, Path(ge=1)], module: str, route: str, service: ServiceOf
) -> dict[str, Any]:
    """What applies to one route: each setting as written, its level and its place."""
    objects = await objects_of(service.engine, number)
    loaded = await asyncio.to_thread(checked, objects, number)
    if loaded.gateway is None:
        raise invalid(loaded.problems, loaded.where)
    try:
        settings = effective.effective(loaded.gateway, loaded.where, module, route)
    except KeyError:
        raise not_found(f"route {module}/{route} in revision {number}") from None
    return {"revision": number, "route": f"{module}/{route}", "settings": effective.as_json(settings, loaded.where)}
