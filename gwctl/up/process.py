"""A server as a child process of ours: started with a log file, waited for, stopped by its pid, never left behind.

On Linux a child asks the kernel to be signalled when its parent dies (prctl(2), PR_SET_PDEATHSIG), so that even
`kill -9` of a supervisor leaves nothing running. The kernel ties that to the thread that started the child:
start children from a thread that lives as long as they should (the main thread).
"""

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

POLL_SECONDS = 0.02
SOCKET_PATH_BYTES = 107  # sun_path of unix(7), without its NUL
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ProcessError(RuntimeError):
    """A child did not become ready. The text says which and has the end of its log."""


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system user that a child runs as."""

    uid: int
    gid: int


@dataclass
class Process:
    """One child. `ready` says whether it serves; `death_signal` is what it gets if we die first. Not thread-safe.

    `log`: None for our own standard error.
    """

    name: str
    command: Sequence[str]
    log: Path | None
    ready: Callable[[], bool] = lambda: True
    environment: Mapping[str, str] | None = None
    directory: Path = Path("/")
    account: Account | None = None
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    death_signal: signal.Signals = signal.SIGKILL
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _asked: bool = field(default=False, init=False, repr=False)

    @property
    def pid(self) -> int | None:
        """None once it has ended."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def exit_status(self) -> int | None:
        """Of the last run: the exit code, or minus the signal that ended it; None while it runs or never ran."""
        return self._child.poll() if self._child is not None else None

    def spawn(self) -> None:
        """Starts it and returns at once; nothing happens if it runs already."""
        if self.pid is not None:
            return
        user = {"user": self.account.uid, "group": self.account.gid, "extra_groups": []} if self.account else {}
        self._asked = False
        with open_log(self.log) if self.log else contextlib.nullcontext(None) as log:
            self._child = subprocess.Popen(
                [*self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=self.environment,
                start_new_session=True,  # Ctrl-C in the terminal is for us, who stop children in order
                preexec_fn=_die_with_parent(self.death_signal, os.getpid()),
                **user,  # type: ignore[call-overload]
            )

    def wait_ready(self, timeout: float) -> None:
        """Polls `ready` every 20 ms. If the child ends or `timeout` seconds pass, stops it and raises ProcessError."""
        deadline = time.monotonic() + timeout
        while not self.ready():
            if self.pid is None or time.monotonic() > deadline:
                raise self._failed(timeout)
            time.sleep(POLL_SECONDS)

    def start(self, timeout: float = 30.0) -> None:
        self.spawn()
        self.wait_ready(timeout)

    def ask_to_stop(self) -> None:
        """The first stop signal, without waiting; once only, since many take a second one for impatience."""
        if self._child is not None and not self._asked:
            self._asked = True
            self._child.send_signal(self.stop_signals[0])

    def stop(self, timeout: float = 10.0) -> None:
        """Asks with each of the stop signals in turn, waiting `timeout` seconds after each, then kills. Idempotent."""
        self.ask_to_stop()
        for how in (None, *self.stop_signals[1:], signal.SIGKILL):
            if self._signal(how, timeout):
                return

    def kill9(self) -> None:
        self._signal(signal.SIGKILL, 10.0)

    def _signal(self, how: signal.Signals | None, timeout: float) -> bool:
        """Whether it has ended, `timeout` seconds after it was sent that."""
        if self._child is None:
            return True
        if how is not None:
            self._child.send_signal(how)  # does nothing to a child that was reaped: a reused pid is safe
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout)
        return self._child.poll() is not None

    def _failed(self, timeout: float) -> ProcessError:
        what = f"ended with status {self.exit_status}" if self.pid is None else f"was not ready within {timeout:g} s"
        self.stop(2.0)
        return ProcessError(f"{self.name} {what}{last_words(self.log)}")


def open_log(path: Path) -> "contextlib.AbstractContextManager[int]":
    """A file descriptor to append to; made for the owner only, since access logs hold clients' addresses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return _descriptor(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))


@contextlib.contextmanager
def _descriptor(number: int):  # type: ignore[no-untyped-def]
    try:
        yield number
    finally:
        os.close(number)


def last_words(log: Path | None) -> str:
    """For an error, after its first words. Nothing where the log is ours: it stands above."""
    return f"; {log} ends with:\n{tail(log)}" if log else ""


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a log, at most 4 kB of them."""
    if not path.exists():
        return "(no log was written)"
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 4096))
        return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:]) or "(the log is empty)"


def socket_directory(wanted: Path, longest_name: str) -> Path:
    """`wanted`, or a short one in the temporary directory that belongs to it alone; private to this user.

    A Unix socket's path may have 107 bytes only. Raises ProcessError if somebody else made that directory.
    """
    short = len(os.fsencode(wanted / longest_name)) <= SOCKET_PATH_BYTES
    digest = hashlib.blake2b(os.fsencode(wanted.absolute()), digest_size=6, person=b"tollhouse").hexdigest()
    path = wanted if short else Path(tempfile.gettempdir()) / f"tollhouse-{os.geteuid()}-{digest}"
    path.mkdir(mode=0o700, parents=short, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        raise ProcessError(f"{path} is not a directory that only its owner may enter")
    return path


def packaged(package: str, pattern: str) -> Path:
    """A file or directory inside an installed wheel. Not by import, which has effects on the user's directories.

    Raises ProcessError if it is not installed.
    """
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for found in sorted(Path(root).glob(pattern)):
            return found
    raise ProcessError(f"{package} is not installed here: pip install 'tollhouse[up]'")


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on right now."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _die_with_parent(how: signal.Signals, parent: int) -> Callable[[], None]:
    def in_child() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(how), 0, 0, 0)
            if os.getppid() != parent:  # it died before the kernel knew our wish
                os._exit(1)

    return in_child
