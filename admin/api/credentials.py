"""API keys of consumers, and tokens signed for providers whose secret we hold."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from admin.api import common
from admin.api.common import Actor, ServiceOf
from admin.keys import NewKey
from admin.minting import NewToken
from admin.problems import refused
from admin.schemas import NEVER, KeyBody, Limit, TokenBody, lifetime
from gateway.scalars import parse_duration

router = APIRouter(prefix="/v1", tags=["credentials"])

KeyId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,64}$")]


@router.post("/keys", status_code=201)
async def create_key(body: KeyBody, service: ServiceOf, actor: Actor, response: Response) -> dict[str, Any]:
    """`key` is in this answer and nowhere else, ever."""
    wanted = NewKey(body.name, body.tier, tuple(body.scopes), lifetime(body.expires_in), body.consumer)
    row, text = await service.keys.create(actor, wanted)
    response.headers["cache-control"] = "no-store"
    response.headers["location"] = f"/v1/keys/{row.id}"
    return {**common.key(row), "key": text}


@router.get("/keys")
async def keys(
    service: ServiceOf,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=64, description="The last id of the page before")] = None,
    consumer: Annotated[str | None, Query(max_length=64)] = None,
) -> dict[str, Any]:
    """All keys, revoked and expired ones included, without their texts."""
    rows = await service.keys.page(limit, after, consumer)
    return {"keys": [common.key(row) for row in rows], "next": rows[-1].id if len(rows) == limit else None}


@router.get("/keys/{key_id}")
async def key(key_id: KeyId, service: ServiceOf) -> dict[str, Any]:
    return common.key(await service.keys.get(key_id))


@router.delete("/keys/{key_id}")
async def revoke_key(key_id: KeyId, service: ServiceOf, actor: Actor) -> dict[str, Any]:
    """Revokes for good. Doing it again changes nothing."""
    return common.key(await service.keys.revoke(actor, key_id))


@router.post("/tokens")
async def mint_token(body: TokenBody, service: ServiceOf, actor: Actor, response: Response) -> dict[str, Any]:
    """A JWT for `subject`, signed with the provider's HS256 secret; its life is cut to what the provider accepts."""
    if body.expires_in == NEVER:
        raise refused("/expires_in", "a token must expire")
    milliseconds = parse_duration(body.expires_in)
    wanted = NewToken(body.provider, body.subject, body.tier, tuple(body.scopes), body.claims, milliseconds)
    token, expires = await service.minter.mint(actor, wanted)
    response.headers["cache-control"] = "no-store"
    return {"token": token, "expires_at": common.time(expires)}
