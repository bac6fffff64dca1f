"""What the routes share: the service behind them, who calls, and how rows look in JSON."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Request

from admin.service import Service
from db.rows import KeyRow, RevisionRow


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _owner(request: Request) -> str | None:
    """The only owner whose objects the caller may change; None for any."""
    owner: str | None = request.state.caller.owner
    return owner


def _actor(request: Request) -> str:
    """The name of the token, as the audit log records it. The guard has checked it before any route runs."""
    return str(request.state.caller.name)


ServiceOf = Annotated[Service, Depends(_service)]
Actor = Annotated[str, Depends(_actor)]
Owner = Annotated[str | None, Depends(_owner)]


def time(at: datetime | None) -> str | None:
    """RFC 3339, UTC."""
    return at.isoformat().replace("+00:00", "Z") if at is not None else None


def revision(row: RevisionRow) -> dict[str, Any]:
    return {
        "revision": row.number,
        "parent": row.parent,
        "version": row.digest,
        "author": row.author,
        "message": row.message,
        "git_commit": row.git_commit or None,
        "created_at": time(row.created_at),
    }


def key(row: KeyRow) -> dict[str, Any]:
    """A key without what could be used as one: `prefix` has its public id only."""
    return {
        "id": row.id,
        "name": row.name,
        "prefix": row.prefix,
        "consumer": row.consumer,
        "tier": row.tier,
        "scopes": list(row.scopes),
        "allowed_ips": list(row.allowed_ips),
        "labels": dict(row.labels),
        "created_at": time(row.created_at),
        "expires_at": time(row.expires_at),
        "revoked_at": time(row.revoked_at),
        "disabled_at": time(row.disabled_at),
        "old_secret_until": time(row.previous_until),
        "pepper_version": row.pepper_version,
        "last_used_at": time(row.last_used_at),
    }
