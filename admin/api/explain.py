"""Why a request would be answered as it would."""

from typing import Any

from fastapi import APIRouter

from admin.api.common import ServiceOf
from gateway.explain import Question

router = APIRouter(prefix="/v1", tags=["explain"])


@router.post("/explain")
async def explain(body: Question, service: ServiceOf) -> dict[str, Any]:
    """What becomes of a request to what is live: each step with its place, the answer, and what was not reached.

    Nothing is sent, and nothing in it is a secret: of a token its claims, of a key its public id.
    """
    return await service.explainer.explain(body)
