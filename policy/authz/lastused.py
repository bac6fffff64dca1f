"""When each key was last used, gathered here and written in batches: never a write per request."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import structlog

from policy.unavailable import Unavailable

log = structlog.get_logger(__name__)

LARGEST: Final = 10_000
"""Keys in one write; further ones are noted with their next use."""


class LastUsed:
    def __init__(self, write: Callable[[Mapping[str, datetime]], Awaitable[None]]) -> None:
        self._write = write
        self._used: dict[str, float] = {}

    def note(self, key_id: str, now: float) -> None:
        if key_id in self._used or len(self._used) < LARGEST:
            self._used[key_id] = now

    async def flush(self) -> None:
        """Writes what was noted since. If the database is away it is kept for the next time."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._write({key_id: datetime.fromtimestamp(at, UTC) for key_id, at in used.items()})
        except Unavailable as error:
            log.info("last_used_kept_for_later", keys=len(used), reason=str(error))
            self._used = used | self._used
