"""Rollouts: how far a revision has come, and what an operator says to that."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.sse import EventSourceResponse, ServerSentEvent

from admin.api.common import Actor, ServiceOf
from admin.rollouts import summary
from admin.schemas import Before, FreezeBody, Limit, PromoteBody

router = APIRouter(prefix="/v1", tags=["rollouts"])


@router.get("/rollout")
async def rollout(service: ServiceOf) -> dict[str, Any]:
    """The open rollout, else the one that ended last: its waves, and of each its nodes by what they have said."""
    return await service.rollouts.now()


@router.get("/rollout/events", response_class=EventSourceResponse)
async def rollout_events(service: ServiceOf) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: what `GET /v1/rollout` answers, at first and whenever that changes."""
    async for found in service.rollouts.watch():
        yield ServerSentEvent(event="rollout", data=found)


@router.get("/rollouts")
async def rollouts(service: ServiceOf, limit: Limit = 50, before: Before = None) -> dict[str, Any]:
    """Newest first."""
    rows = await service.rollouts.history(limit, before)
    return {
        "rollouts": [summary(row) for row in rows],
        "next": rows[-1].revision if len(rows) == limit else None,
    }


@router.get("/rollouts/{revision}")
async def one_rollout(revision: Annotated[int, Path(ge=1)], service: ServiceOf) -> dict[str, Any]:
    """The rollout of one revision. 404 for a revision that went to all nodes at once."""
    return await service.rollouts.one(revision)


@router.post("/rollout/pause")
async def pause_rollout(service: ServiceOf, actor: Actor) -> dict[str, Any]:
    """No further wave begins, and nothing halts it."""
    return await service.rollouts.act(actor, "pause")


@router.post("/rollout/resume")
async def resume_rollout(service: ServiceOf, actor: Actor) -> dict[str, Any]:
    """Goes on; a halted one goes on without the nodes that halted it."""
    return await service.rollouts.act(actor, "resume")


@router.post("/rollout/promote")
async def promote_rollout(service: ServiceOf, actor: Actor, body: PromoteBody | None = None) -> dict[str, Any]:
    """The next wave begins now; with `everywhere` all nodes get it."""
    return await service.rollouts.act(actor, "promote", everywhere=body is not None and body.everywhere)


@router.post("/rollout/abort")
async def abort_rollout(service: ServiceOf, actor: Actor) -> dict[str, Any]:
    """Commits what it began from as a new revision, which goes to all nodes at once."""
    return await service.rollouts.act(actor, "abort")


@router.put("/rollout/freeze")
async def freeze_rollouts(body: FreezeBody, service: ServiceOf, actor: Actor) -> dict[str, Any]:
    """No rollout begins or goes on, and what is applied waits. A halt, and going back, are not held up."""
    return await service.rollouts.freeze(actor, body.reason)


@router.delete("/rollout/freeze")
async def unfreeze_rollouts(service: ServiceOf, actor: Actor) -> dict[str, Any]:
    """Doing it again changes nothing."""
    return {"changed": await service.rollouts.unfreeze(actor)}
