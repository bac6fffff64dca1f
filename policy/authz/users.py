"""User names and passwords: files of the secret store, verified with Argon2id beside the event loop.

A verification costs time and memory on purpose, so only a few run at once and only so many wait; a password that was
right is remembered for a while, as a MAC under a key that only this process has. An unknown name costs the same as a
wrong password.
"""

import asyncio
import hmac
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from gateway.passwords import MEMORY_COST, PARALLELISM, TIME_COST, users_of
from policy.unavailable import Unavailable

log = structlog.get_logger(__name__)

AT_ONCE: Final = max(2, min(4, os.cpu_count() or 2))
WAITING: Final = 64
"""Verifications that may run or wait; more are refused at once."""
REMEMBERED: Final = 10_000
REMEMBER: Final = 300.0
LOOK_AGAIN: Final = 1.0
"""Seconds: how long a right password is remembered, and how often a file is looked at."""
LARGEST: Final = 1 << 20

_HASHER: Final = PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_COST, parallelism=PARALLELISM)
_NOBODY: Final = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""A hash of these costs that no password has."""

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Listed:
    """A file's users. `looked`: when it was last found to be the same."""

    stamp: Stamp
    hashes: dict[str, str]
    looked: float


class Users:
    """`directory`: the secret store; None where this process has none, and then nobody can be verified."""

    def __init__(self, directory: Path | None, now: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._now = now
        self._files: dict[str, Listed] = {}
        self._right: OrderedDict[bytes, float] = OrderedDict()
        self._mac_key = secrets.token_bytes(32)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")
        self._pending = 0
        self._tasks: set[asyncio.Task[bool]] = set()

    async def verify(self, secret: str, user: str, password: str) -> bool:
        """Whether the password is the user's, by the file of that name. Raises Unavailable."""
        stored = (await self._hashes(secret)).get(user, _NOBODY)
        mac = hmac.digest(self._mac_key, repr((secret, user, password, stored)).encode(), "sha256")
        if self._right.get(mac, 0.0) > self._now():
            return True
        if self._pending >= WAITING:
            raise Unavailable("too many passwords are being verified")
        self._pending += 1
        work = asyncio.create_task(self._verified(stored, password, mac))
        self._tasks.add(work)
        work.add_done_callback(self._done)
        return await asyncio.shield(work)  # a thread cannot be stopped: what it finds is of use to the next try

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _verified(self, stored: str, password: str, mac: bytes) -> bool:
        right = await asyncio.get_running_loop().run_in_executor(self._threads, matches, stored, password)
        if right and stored is not _NOBODY:
            self._remember(mac)
            return True
        return False

    def _done(self, work: "asyncio.Task[bool]") -> None:
        self._pending -= 1
        self._tasks.discard(work)
        if not work.cancelled():
            work.exception()

    def _remember(self, mac: bytes) -> None:
        self._right[mac] = self._now() + REMEMBER
        self._right.move_to_end(mac)
        while len(self._right) > REMEMBERED:
            self._right.popitem(last=False)

    async def _hashes(self, secret: str) -> dict[str, str]:
        listed = self._files.get(secret)
        if listed is None or self._now() - listed.looked >= LOOK_AGAIN:
            listed = self._files[secret] = await asyncio.to_thread(self._look, secret, listed)
        return listed.hashes

    def _look(self, secret: str, before: Listed | None) -> Listed:
        if self._directory is None:
            raise Unavailable("this decision service has no secret store, so it cannot verify passwords")
        path = self._directory / secret
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if before is not None and before.stamp == stamp:
                return Listed(stamp, before.hashes, self._now())
            text = path.read_bytes()[:LARGEST].decode()
        except (OSError, UnicodeError) as error:
            raise Unavailable(f"the users of {secret!r} cannot be read: {type(error).__name__}") from None
        hashes, wrong = users_of(text)
        log.log(30 if wrong else 20, "users_read", secret=secret, users=len(hashes), lines_ignored=wrong)
        return Listed(stamp, hashes, self._now())


def matches(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (Argon2Error, InvalidHashError):
        return False
