"""Applying, and what was applied."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from admin.api import common
from admin.api.common import Actor, ServiceOf
from admin.apply import Apply
from admin.schemas import ApplyBody, Before, Limit
from gateway import render

router = APIRouter(prefix="/v1", tags=["revisions"])


@router.post("/apply")
async def apply(body: ApplyBody, service: ServiceOf, actor: Actor) -> dict[str, Any]:
    """Puts files onto the head revision: one new revision, or none at all.

    422 has every problem with its file, line and column; 409 says that the head moved, or whose object it is.
    """
    files = [(file.name, file.text) for file in body.files]
    wanted = Apply(
        files,
        body.message,
        body.prune,
        body.dry_run,
        body.expected_revision,
        body.allow_shrink,
        body.supersede,
    )
    done = await service.applier.apply(actor, wanted)
    return {
        "revision": done.revision,
        "version": done.version,
        "changed": [{"kind": kind, "name": name, "action": action} for kind, name, action in done.changed],
        "problems": render.as_json(done.problems),
        "dry_run": body.dry_run,
    }


@router.get("/revisions")
async def history(service: ServiceOf, limit: Limit = 50, before: Before = None) -> dict[str, Any]:
    """Newest first."""
    rows = await service.history(limit, before)
    return {
        "revisions": [common.revision(row) for row in rows],
        "next": rows[-1].number if len(rows) == limit and rows[-1].number > 1 else None,
    }


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
