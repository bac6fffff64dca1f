"""API keys of consumers, and tokens signed for providers whose secret we hold."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from admin.api import common
from admin.api.common import Actor, ServiceOf
from admin.keys import NewKey, Rotation
from admin.minting import NewToken
from admin.problems import refused
from admin.schemas import NEVER, KeyBody, KeyChangeBody, Limit, RotateBody, TokenBody, lifetime
from gateway.scalars import parse_duration

router = APIRouter(prefix="/v1", tags=["credentials"])

KeyId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,64}$")]


@router.post("/keys", status_code=201)
async def create_key(body: KeyBody, service: ServiceOf, actor: Actor, response: Response) -> dict[str, Any]:
    """`key` is in this answer and nowhere else, ever."""
    wanted = NewKey(
        body.name,
        body.tier,
        tuple(body.scopes),
        lifetime(body.expires_in),
        body.consumer,
        tuple(body.allowed_ips),
        body.labels,
    )
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
    """All keys, revoked and expired ones included, without their texts.

    `pepper_version` beside them is that of new digests; keys of a smaller one have not been used since it changed.
    """
    rows = await service.keys.page(limit, after, consumer)
    return {
        "keys": [common.key(row) for row in rows],
        "next": rows[-1].id if len(rows) == limit else None,
        "pepper_version": service.keys.pepper_version,
    }


@router.get("/keys/{key_id}")
async def key(key_id: KeyId, service: ServiceOf) -> dict[str, Any]:
    return common.key(await service.keys.get(key_id))


@router.patch("/keys/{key_id}")
async def change_key(key_id: KeyId, body: KeyChangeBody, service: ServiceOf, actor: Actor) -> dict[str, Any]:
    """Its name, scopes, allowed addresses and labels, each as a whole, and whether it is disabled."""
    values = body.model_dump(exclude_none=True)
    if not values:
        raise refused("", "nothing to change is named")
    return common.key(await service.keys.change(actor, key_id, values))


@router.post("/keys/{key_id}/rotate")
async def rotate_key(
    key_id: KeyId, body: RotateBody, service: ServiceOf, actor: Actor, response: Response
) -> dict[str, Any]:
    """Another secret for the same key: `key`, in this answer and nowhere else. The old one works for the overlap."""
    overlap = timedelta(milliseconds=parse_duration(body.overlap))
    life = lifetime(body.expires_in) if body.expires_in is not None else None
    row, text = await service.keys.rotate(actor, key_id, Rotation(overlap, life, body.expires_in is None))
    response.headers["cache-control"] = "no-store"
    return {**common.key(row), "key": text}


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
