"""The fleet as the control planes see it together: each writes the nodes of its own streams, all read all of them.

A control plane that is not heard from is dead, and then its nodes count as lost since it was last heard from. One that
was silent for a while, because the database was away, starts watching anew: it could not tell what it saw.
"""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import case, delete, func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.canonical import text
from db.rows import Fleet, FleetNode

DEAD_AFTER: Final = timedelta(seconds=10)
FORGOTTEN_AFTER: Final = timedelta(minutes=15)

R, N = tables.replicas.c, tables.nodes.c


async def report(connection: AsyncConnection, replica: str, changed: Iterable[FleetNode] = ()) -> None:
    """The control plane `replica` lives, and sees these nodes like this from now on."""
    now = func.clock_timestamp()
    beat = upsert(tables.replicas).values(id=replica, since=now, seen_at=now)
    since = case((R.seen_at < now - DEAD_AFTER, now), else_=R.since)
    await connection.execute(beat.on_conflict_do_update(index_elements=[R.id], set_={"seen_at": now, "since": since}))
    rows = [_values(replica, node) for node in sorted(changed, key=lambda node: node.id)]
    if rows:
        made = upsert(tables.nodes).values(seen_at=now)
        new = {name: made.excluded[name] for name in (*rows[0], "seen_at") if name not in ("replica", "node")}
        await connection.execute(made.on_conflict_do_update(index_elements=[N.replica, N.node], set_=new), rows)


async def tidy(connection: AsyncConnection) -> None:
    """Forgets what is gone for long."""
    oldest = func.clock_timestamp() - FORGOTTEN_AFTER
    await connection.execute(delete(tables.nodes).where(~N.connected, N.seen_at < oldest))
    await connection.execute(delete(tables.replicas).where(R.seen_at < oldest))


async def leave(connection: AsyncConnection, replica: str) -> None:
    """The control plane ends: its nodes are lost to it from now on, and nobody waits to find out."""
    now = func.clock_timestamp()
    await connection.execute(
        tables.nodes.update().where(N.replica == replica, N.connected).values(connected=False, seen_at=now)
    )
    await connection.execute(tables.replicas.update().where(R.id == replica).values(seen_at=now - DEAD_AFTER))


async def fleet(connection: AsyncConnection) -> Fleet:
    """Every node once: as a living control plane has it connected, else as it was seen last."""
    joined = tables.nodes.join(tables.replicas, N.replica == R.id)
    columns = (*tables.nodes.c, R.seen_at.label("heard_at"))
    now = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
    found = [_node(row, now) for row in await connection.execute(select(*columns).select_from(joined))]
    alive = select(func.max(R.since)).where(R.seen_at >= now - DEAD_AFTER)
    since = (await connection.execute(alive)).scalar_one()
    ordered = sorted(found, key=lambda node: (node.connected, node.seen_at))
    return Fleet({node.id: node for node in ordered}, since or now)


def _values(replica: str, node: FleetNode) -> dict[str, Any]:
    return {
        "replica": replica,
        "node": node.id,
        "cluster": node.cluster,
        "labels": text(dict(sorted(node.labels.items()))),
        "region": node.region,
        "zone": node.zone,
        "connected": node.connected,
        "revision": node.revision,
        "rejected": node.rejected,
        "nack": text(node.nack if node.nack is None else dict(node.nack)),
    }


def _node(row: Any, now: datetime) -> FleetNode:
    alive = row.heard_at >= now - DEAD_AFTER
    return FleetNode(
        id=row.node,
        cluster=row.cluster,
        labels=json.loads(row.labels),
        region=row.region,
        zone=row.zone,
        connected=row.connected and alive,
        revision=row.revision,
        rejected=row.rejected,
        nack=json.loads(row.nack),
        seen_at=row.seen_at if alive or not row.connected else row.heard_at,
    )
