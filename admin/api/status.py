"""The fleet."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from admin.api.common import ServiceOf

router = APIRouter(prefix="/v1", tags=["status"])


@router.get("/status")
async def status(
    service: ServiceOf,
    revision: Annotated[int | None, Query(ge=0, description="The revision that `state` is about")] = None,
    wait: Annotated[float, Query(ge=0, le=300, description="Seconds to wait for its outcome")] = 0,
) -> dict[str, Any]:
    """Which revision is given out, and who has taken it.

    With `wait`: answers as soon as every connected node has taken `revision`, one has refused it, or it has failed.
    """
    if revision is not None and wait > 0:
        return await service.status.wait(revision, wait)
    return service.status.now(revision)
