"""Counts in PostgreSQL, as this room sees them."""

import asyncio
import secrets
from collections.abc import Mapping
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import engine as engines
from db import traffic
from policy.accesslog.tally import Cell, Key
from policy.unavailable import Unavailable

TIDY_EVERY: Final = 60.0


class TrafficTable:
    """One process's rows: nobody else writes them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._source = secrets.token_hex(8)
        self._tidied = 0.0

    async def write(self, cells: Mapping[Key, Cell]) -> None:
        """Raises Unavailable."""
        rows = [row(key, cell) for key, cell in cells.items()]
        now = asyncio.get_running_loop().time()
        tidy = now - self._tidied >= TIDY_EVERY

        async def work(connection: AsyncConnection) -> None:
            await traffic.write(connection, self._source, rows)
            if tidy:
                await traffic.tidy(connection)

        try:
            await engines.run(self._engine, work)
        except engines.Unavailable as error:
            raise Unavailable("the table of traffic cannot be reached") from error
        self._tidied = now if tidy else self._tidied


def row(key: Key, cell: Cell) -> traffic.Row:
    return {
        "slice": key.slice,
        "node": key.node,
        "route": key.route,
        "tier": key.tier,
        **{name: cell.outcomes[name] for name in traffic.OUTCOMES},
        "bins": list(cell.bins),
        "counts": list(cell.bins.values()),
    }
