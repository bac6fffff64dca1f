"""The cache itself: what is kept for a request, found, put away and removed, over any store."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.caching import Terms
from policy.cache import key, rules
from policy.cache.entry import Choice, Entry, Stored, decode, encode
from policy.cache.key import Key
from policy.cache.message import Request, Response
from policy.cache.store import Store


@dataclass(frozen=True, slots=True)
class Found:
    """`age` in seconds, as of now."""

    stored: Stored
    age: int


def seconds_now() -> int:
    """Since the epoch: entries are read by other processes than the one that wrote them."""
    return int(time.time())


class Library:
    def __init__(self, store: Store, now: Callable[[], int] = seconds_now) -> None:
        self._store = store
        self._now = now

    async def find(self, terms: Terms, request: Request) -> Found | None:
        """A fresh answer that this request accepts."""
        target = key.of_target(terms.route, request)
        entry = await self._read(target)
        if isinstance(entry, Choice):
            entry = await self._read(key.of_variant(target, entry.generation, entry.names, request))
        if not isinstance(entry, Stored):
            return None
        waited = max(0, self._now() - entry.at)
        fresh = waited < entry.lifetime and (entry.for_all or not terms.guarded)
        accepted = fresh and rules.accepts(
            request, entry.age + waited, entry.age + entry.lifetime, for_all=entry.for_all
        )
        return Found(entry, entry.age + waited) if accepted else None

    def lifetime(self, terms: Terms, request: Request, response: Response) -> int:
        return rules.lifetime(terms, request, response, self._now())

    async def keep(self, terms: Terms, request: Request, response: Response, body: bytes, lifetime: int) -> None:
        target = place = key.of_target(terms.route, request)
        names = tuple(sorted({*terms.vary_by, *rules.varies(response)}))
        if names:
            choice = await self._choice(target, names)
            # It lives as long as whatever may be kept under it from now on.
            await self._write(target, choice, max(lifetime, -(-terms.ttl // 1000)))
            place = key.of_variant(target, choice.generation, names, request)
        headers = rules.kept_headers(response.headers)
        age, for_all = rules.age_of(response), rules.is_for_all(response)
        await self._write(place, Stored(response.status, headers, body, self._now(), age, lifetime, for_all), lifetime)

    async def drop(self, terms: Terms, request: Request) -> None:
        await self._store.drop(key.place(key.of_target(terms.route, request)))

    async def close(self) -> None:
        await self._store.close()

    async def _choice(self, target: Key, names: tuple[str, ...]) -> Choice:
        """The one that is there, unless it chooses by other headers."""
        there = await self._read(target)
        return there if isinstance(there, Choice) and there.names == names else Choice(names, secrets.token_hex(8))

    async def _read(self, at: Key) -> Entry | None:
        raw = await self._store.get(key.place(at))
        return None if raw is None else decode(at, raw)

    async def _write(self, at: Key, entry: Entry, seconds: int) -> None:
        await self._store.put(key.place(at), encode(at, entry), seconds)
