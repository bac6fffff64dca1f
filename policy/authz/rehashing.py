"""Keys whose digest is under an older pepper get one under the newest when they are used: gathered, written in batches.

Only the text of a key gives its digest, and only its owner has that. So the older pepper can be given up when no key
that is still used depends on it.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import structlog

from db.keys import Rehash
from policy.authz import keys, peppers
from policy.authz.identity import KeyRecord
from policy.authz.peppers import Peppers
from policy.unavailable import Unavailable

log = structlog.get_logger(__name__)

LARGEST: Final = 1_000
"""Keys in one write; further ones are noted with their next use."""


class Rehashing:
    """`written` hears of the keys whose digest was replaced: what is remembered of them is the old one."""

    def __init__(
        self,
        known: Peppers,
        write: Callable[[Sequence[Rehash]], Awaitable[None]],
        written: Callable[[Iterable[str]], None],
    ) -> None:
        self._peppers = known
        self._version, self._pepper = peppers.newest(known)
        self._write = write
        self._written = written
        self._made: dict[str, Rehash] = {}

    def note(self, record: KeyRecord, text: str) -> None:
        """`text`: a key that was let in by `record`, perhaps by its secret before a rotation."""
        if record.pepper_version >= self._version or record.id in self._made or len(self._made) >= LARGEST:
            return
        old = self._peppers.get(record.pepper_version)
        if old is not None and keys.same(keys.digest(old, text), record.digest):
            self._made[record.id] = Rehash(record.id, record.digest, keys.digest(self._pepper, text), self._version)

    async def flush(self) -> None:
        """Writes what was noted since. What cannot be written is noted again with the key's next use."""
        made, self._made = self._made, {}
        if not made:
            return
        try:
            await self._write(list(made.values()))
        except Unavailable as error:
            log.info("keys_not_rehashed_yet", keys=len(made), reason=str(error))
        else:
            self._written(made)
            log.info("keys_rehashed", keys=len(made), pepper_version=self._version)
