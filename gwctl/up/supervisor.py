"""Keeps the parts of a gateway running: starts them, starts again what dies, stops all of them in reverse order.

One thread, polling: children are tied to the thread that starts them (see `process`), and a few of them are looked at
fifty times a second for less than one per cent of a core.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from gwctl.up.process import POLL_SECONDS, ProcessError, last_words

log = structlog.get_logger(__name__)

FIRST_DELAY: Final = 0.1
LAST_DELAY: Final = 2.0
STABLE_SECONDS: Final = 10.0  # whoever lived that long starts again without a delay to speak of
TRIES_AT_START: Final = 5  # 3 s: what a run before left may need a moment to be gone


class Server(Protocol):
    """What `Process`, `Postgres` and `Valkey` have in common."""

    @property
    def log(self) -> Path | None: ...
    @property
    def pid(self) -> int | None: ...
    def spawn(self) -> None: ...
    def ready(self) -> bool: ...
    def ask_to_stop(self) -> None: ...
    def stop(self) -> None: ...


@dataclass
class Child:
    """A part with its history. `look` starts it again, with a growing delay, when it has died."""

    name: str
    server: Server
    store: bool = False
    deaths: int = 0
    started_at: float = 0.0
    retry_at: float | None = None

    def start(self) -> None:
        self.server.spawn()
        self.started_at = time.monotonic()
        self.retry_at = None

    def look(self, now: float) -> bool:
        """Whether there is a new process."""
        if self.server.pid is not None:
            if self.deaths and now - self.started_at > STABLE_SECONDS:
                self.deaths = 0
            return False
        if self.retry_at is None:
            self.retry_at = now + min(LAST_DELAY, FIRST_DELAY * 2**self.deaths)
            self.deaths += 1
            log.warning("died", part=self.name, deaths=self.deaths)
        if now < self.retry_at:
            return False
        self.start()
        log.warning("restarted", part=self.name, pid=self.server.pid)
        return True


class Supervisor:
    """`add` starts a part; `until` waits for conditions and `run` for ever, both looking after every part meanwhile."""

    def __init__(self, changed: Callable[[dict[str, int]], None]) -> None:
        self._children: list[Child] = []
        self._changed = changed

    @property
    def pids(self) -> dict[str, int]:
        return {child.name: child.server.pid for child in self._children if child.server.pid is not None}

    def add(self, name: str, server: Server, *, store: bool = False) -> None:
        """`store`: it stops after all the others, who may have something to write yet."""
        child = Child(name, server, store)
        self._children.append(child)
        child.start()
        log.info("started", part=name, pid=server.pid)

    def until_ready(self, names: Sequence[str], timeout: float) -> None:
        """Until the named parts serve. Raises ProcessError if one of them does not within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        waiting = [child for child in self._children if child.name in names]
        while waiting:
            waiting = [child for child in waiting if not child.server.ready()]
            self._look(at_start=True)
            if waiting and time.monotonic() > deadline:
                raise _failure(waiting[0], f"was not ready within {timeout:g} s")
            time.sleep(POLL_SECONDS if waiting else 0)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Until interrupted, or `until` says so."""
        while not until():
            self._look()
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Everything, in the reverse order of starting; each is asked before any is waited for. Idempotent."""
        for store in (False, True):
            stage = [child for child in reversed(self._children) if child.store is store]
            for child in stage:
                child.server.ask_to_stop()
            for child in stage:
                child.server.stop()
        self._children.clear()

    def _look(self, *, at_start: bool = False) -> None:
        now = time.monotonic()
        changed = [child for child in self._children if child.look(now)]
        for child in self._children if at_start else ():
            if child.deaths >= TRIES_AT_START:
                raise _failure(child, "does not start")
        if changed:
            self._changed(self.pids)


def _failure(child: Child, what: str) -> ProcessError:
    return ProcessError(f"{child.name} {what}{last_words(child.server.log)}")
