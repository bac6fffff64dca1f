"""What the requests of nodes came to, in slices of ten seconds: counts and latencies by node, route and tier.

Each process that counts writes rows of its own (`source`), as totals: writing one again changes nothing. No request is
here, only numbers under the operator's own names.
"""

# ruff: noqa: S608 - statements are put together from names of columns that stand here

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from db.histogram import quantile

KEPT: Final = timedelta(hours=24)
OUTCOMES: Final = ("success", "redirect", "client_error", "limited", "upstream_error", "gateway_error", "gone")
"""Columns. `limited`: 429. `gateway_error`: a 5xx of Envoy's own. `gone`: the client left before the answer."""

By = Literal["route", "node", "tier"]
Row = dict[str, Any]

_COLUMNS: Final = ("at", "source", "node", "route", "tier", *OUTCOMES, "bins", "counts")
_WRITE: Final = text(
    f"INSERT INTO traffic ({', '.join(_COLUMNS)}) "
    "SELECT to_timestamp(slice), :source, node, route, tier, "
    f"{', '.join(OUTCOMES)}, bins, counts FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS found("
    f"slice BIGINT, node TEXT, route TEXT, tier TEXT, {', '.join(f'{name} INTEGER' for name in OUTCOMES)}, "
    "bins INTEGER[], counts INTEGER[]) ON CONFLICT (at, node, route, tier, source) DO UPDATE SET "
    f"{', '.join(f'{name} = excluded.{name}' for name in (*OUTCOMES, 'bins', 'counts'))}"
)
_SUMS: Final = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in OUTCOMES)
_SUCH: Final = "at >= :since AND at < :before"


@dataclass(frozen=True, slots=True)
class Traffic:
    """`counts`: requests by outcome. `bins`: of their latencies, for `db.histogram`."""

    counts: Mapping[str, int]
    bins: Mapping[int, int]

    @property
    def requests(self) -> int:
        return sum(self.counts.values())

    @property
    def errors(self) -> int:
        """Answered with 5xx, whoever did."""
        return self.counts["upstream_error"] + self.counts["gateway_error"]

    @property
    def error_rate(self) -> float:
        """Per cent; 0 of no requests."""
        return 100 * self.errors / self.requests if self.requests else 0.0

    def latency(self, share: float) -> float | None:
        """Milliseconds."""
        return quantile(self.bins, share)


async def write(connection: AsyncConnection, source: str, rows: Sequence[Row]) -> None:
    """Totals of slices, in the place of what `source` has written of them: one statement, however many."""
    await connection.execute(_WRITE, {"source": source, "rows": json.dumps(rows)})


async def tidy(connection: AsyncConnection) -> None:
    await connection.execute(text("DELETE FROM traffic WHERE at < clock_timestamp() - :kept"), {"kept": KEPT})


async def between(
    connection: AsyncConnection, since: datetime, before: datetime, nodes: Collection[str], *, others: bool = False
) -> Traffic:
    """Of the slices that begin in that time, of these nodes, or of all `others`."""
    such = f"{_SUCH} AND {'NOT' if others else ''} (node = ANY(:nodes))"
    given = {"since": since, "before": before, "nodes": sorted(nodes)}
    counts = (await connection.execute(text(f"SELECT {_SUMS} FROM traffic WHERE {such}"), given)).one()._mapping
    bins = await connection.execute(
        text(f"SELECT bin, sum(n) FROM traffic, unnest(bins, counts) AS one(bin, n) WHERE {such} GROUP BY bin"), given
    )
    return Traffic({name: int(counts[name]) for name in OUTCOMES}, {bin_: int(n) for bin_, n in bins})


async def by(connection: AsyncConnection, by: By, since: datetime, before: datetime, limit: int) -> dict[str, Traffic]:
    """The busiest first. Raises ValueError for another column: it becomes part of the statement."""
    if by not in get_args(By):
        raise ValueError(f"traffic is not grouped by {by!r}")
    given = {"since": since, "before": before, "limit": limit}
    counted = await connection.execute(
        text(
            f"SELECT {by} AS name, {_SUMS} FROM traffic WHERE {_SUCH} "
            f"GROUP BY {by} ORDER BY sum({' + '.join(OUTCOMES)}) DESC, {by} LIMIT :limit"
        ),
        given,
    )
    rows = [found._mapping for found in counted]
    binned = await connection.execute(
        text(
            f"SELECT {by}, bin, sum(n) FROM traffic, unnest(bins, counts) AS one(bin, n) "
            f"WHERE {_SUCH} AND {by} = ANY(:names) GROUP BY {by}, bin"
        ),
        {**given, "names": [row["name"] for row in rows]},
    )
    bins: dict[str, dict[int, int]] = {}
    for name, bin_, count in binned:
        bins.setdefault(name, {})[bin_] = int(count)
    return {
        row["name"]: Traffic({name: int(row[name]) for name in OUTCOMES}, bins.get(row["name"], {})) for row in rows
    }


async def rates(connection: AsyncConnection, routes: Collection[str], minutes: int = 10) -> dict[str, float]:
    """Requests a second of these routes, lately; none of a route without any."""
    found = await connection.execute(
        text(
            f"SELECT route, sum({' + '.join(OUTCOMES)}) FROM traffic "
            "WHERE at >= clock_timestamp() - :span AND route = ANY(:routes) GROUP BY route"
        ),
        {"span": timedelta(minutes=minutes), "routes": sorted(routes)},
    )
    return {route: int(requests) / (60 * minutes) for route, requests in found}
