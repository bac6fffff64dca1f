"""The state directory of `gwctl up`: what is in it, whose it is, and whether something runs there.

state.json   what runs, as printed by `up --detach -o json`      (only while it runs)
up.json      what the last run decided (ports), for the next one
token        the control API's token                              0600
pepper       what API keys are hashed with                        0600
secrets/     the secret store                                     0700
endpoints/   the endpoints of services, a file for each           0700
published/   what the control plane last gave out, for when PostgreSQL is not there      0700
logs/ pg/ valkey/ envoy/
"""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class AlreadyRunning(Exception):  # noqa: N818 - a state, not a failure of ours
    """A supervisor holds the directory. `pid` is its process, None if it has not said yet."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"process {pid}" if pid else "another process")
        self.pid = pid


@dataclass(frozen=True, slots=True)
class StateDir:
    root: Path

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def token(self) -> Path:
        return self.root / "token"

    @property
    def pepper(self) -> Path:
        return self.root / "pepper"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def endpoints(self) -> Path:
        return self.root / "endpoints"

    @property
    def published(self) -> Path:
        return self.root / "published"

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    def prepare(self) -> None:
        """Makes what is missing, and puts the last run's logs aside as `*.log.1`. Call it with the lock held."""
        for directory in (self.secrets, self.endpoints, self.root / "logs", self.root / "envoy"):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)
        if not self.pepper.exists():
            write_private(self.pepper, secrets.token_hex(32).encode())
        self.state.unlink(missing_ok=True)
        for log in set((self.root / "logs").glob("*.log")) - {self.log("supervisor")}:
            log.rename(log.with_suffix(".log.1"))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the directory for this process; the kernel lets go of it if we die. Raises AlreadyRunning."""
        self.root.mkdir(parents=True, exist_ok=True)
        # PostgreSQL, which runs as a user of its own under root, must be able to pass through.
        self.root.chmod(0o711 if os.geteuid() == 0 else 0o700)
        with (self.root / "lock").open("a+") as held:
            if not _lock(held.fileno()):
                raise AlreadyRunning(_pid_in(self.root / "lock"))
            held.truncate(0)
            held.write(str(os.getpid()))
            held.flush()
            try:
                yield
            finally:
                held.truncate(0)

    def supervisor(self) -> int | None:
        """The process that runs here, 0 if it is not known which, None if nothing does."""
        try:
            with (self.root / "lock").open("r+") as held:
                return None if _try_lock(held.fileno()) else _pid_in(self.root / "lock") or 0
        except FileNotFoundError:
            return None

    def read_state(self) -> dict[str, Any]:
        """What runs; empty if nothing does."""
        return _read_json(self.state)

    def write_state(self, state: dict[str, Any]) -> None:
        write_private(self.state, json.dumps(state, indent=2).encode() + b"\n")

    def last_run(self) -> dict[str, Any]:
        return _read_json(self.root / "up.json")

    def remember_run(self, decided: dict[str, Any]) -> None:
        write_private(self.root / "up.json", json.dumps(decided, indent=2).encode() + b"\n")

    def add_secret(self, name: str) -> bool:
        """A random HS256 key of that name, unless the store has one. Whether it was made."""
        path = self.secrets / name
        if path.exists():
            return False
        write_private(path, secrets.token_bytes(32))
        return True


def write_private(path: Path, data: bytes) -> None:
    """Replaces the file at once, so that a reader sees the old content or the new; only the owner may read it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    fresh.replace(path)


def _lock(descriptor: int) -> bool:
    """Tries for a moment, since somebody may just be looking whether it is held."""
    for _ in range(10):
        if _try_lock(descriptor):
            return True
        time.sleep(0.02)
    return False


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid_in(path: Path) -> int | None:
    text = path.read_text().strip()
    return int(text) if text.isdecimal() else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
