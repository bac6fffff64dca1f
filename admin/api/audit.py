"""Who did what."""

from typing import Any

from fastapi import APIRouter

from admin.api import common
from admin.api.common import ServiceOf
from admin.schemas import Before, Limit
from db.audit import BrokenChain

router = APIRouter(prefix="/v1", tags=["audit"])


@router.get("/audit")
async def audit(service: ServiceOf, limit: Limit = 100, before: Before = None) -> dict[str, Any]:
    """Newest first. `hash` covers the row and all rows before it."""
    rows = await service.audit(limit, before)
    return {
        "entries": [
            {
                "number": row.number,
                "at": common.time(row.at),
                "actor": row.actor,
                "action": row.action,
                "object": row.object,
                "revision": row.revision,
                "detail": row.detail,
                "hash": row.hash.hex(),
            }
            for row in rows
        ],
        "next": rows[-1].number if len(rows) == limit and rows[-1].number > 1 else None,
    }


@router.get("/audit/verify")
async def verify(service: ServiceOf) -> dict[str, Any]:
    """Walks the whole chain. `ok` false: the log was tampered with, at row `number` first.

    `head`: the last row's number and hash. Kept elsewhere, they also show a chain that was forged as a whole.
    """
    try:
        rows = await service.verify_audit()
    except BrokenChain as broken:
        return {"ok": False, "number": broken.number, "why": broken.why}
    last = await service.audit(1, rows + 1)
    return {"ok": True, "rows": rows, "head": {"number": rows, "hash": last[0].hash.hex()} if last else None}
