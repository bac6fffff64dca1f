"""Tokens of this API. Only an admin sees or makes them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.responses import Response

from admin.access import NewToken
from admin.api import common
from admin.api.common import Actor, ServiceOf
from admin.schemas import AccessBody, lifetime
from db.rows import TokenRow

router = APIRouter(prefix="/v1/access", tags=["access"])

TokenId = Annotated[str, Path(pattern=r"^t_[0-9a-f]{1,64}$")]


@router.get("")
async def access(service: ServiceOf) -> dict[str, Any]:
    """The tokens that work, without their texts."""
    return {"tokens": [_token(row) for row in await service.access.live()]}


@router.post("", status_code=201)
async def create_access(body: AccessBody, service: ServiceOf, actor: Actor, response: Response) -> dict[str, Any]:
    """`token` is in this answer and nowhere else, ever."""
    wanted = NewToken(body.name, body.role, body.owner, lifetime(body.expires_in))
    row, text = await service.access.create(actor, wanted)
    response.headers["cache-control"] = "no-store"
    return {**_token(row), "token": text}


@router.delete("/{token_id}")
async def revoke_access(token_id: TokenId, service: ServiceOf, actor: Actor) -> dict[str, Any]:
    """From now on it is refused."""
    return _token(await service.access.revoke(actor, token_id))


def _token(row: TokenRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "role": row.role,
        "owner": row.owner,
        "created_at": common.time(row.created_at),
        "expires_at": common.time(row.expires_at),
    }
