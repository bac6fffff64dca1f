"""What an apply would do, and how revisions differ."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from admin.api.common import ServiceOf
from admin.apply import Apply
from admin.schemas import PlanBody

router = APIRouter(prefix="/v1", tags=["plan"])

Number = Annotated[int, Path(ge=0, description="A revision; 0 for the empty gateway before the first")]


@router.post("/plan")
async def plan(body: PlanBody, service: ServiceOf) -> dict[str, Any]:
    """What an apply of the same body would change, real Envoy's opinion included. Stores nothing.

    Answers what an apply would for what is wrong with the files, or not the caller's to change.
    """
    files = [(file.name, file.text) for file in body.files]
    wanted = Apply(files, prune=body.prune, expected_revision=body.expected_revision)
    return await service.planner.plan(wanted, envoy=body.envoy, xds=body.xds)


@router.get("/revisions/{old}/diff/{new}")
async def difference(old: Number, new: Number, service: ServiceOf, xds: bool = False) -> dict[str, Any]:
    """What is different in `new`, in the form of a plan."""
    return await service.planner.difference(old, new, xds=xds)
