"""Telling whoever started us how we are, as sd_notify(3) does: a datagram to the socket named in NOTIFY_SOCKET."""

import contextlib
import os
import socket
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
SERVING: Final = "X_SERVING=1"  # a decision service with a gateway to decide by; systemd passes over X_ variables


def notify(state: str) -> None:
    """Nothing happens if nobody asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.sendall(state.encode())


class Listener:
    """The other end, for a supervisor: `heard(state)` once that was said. Close it to remove the socket's file."""

    def __init__(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - a socket, not a path that anybody reads
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._socket.setblocking(False)
        self._heard: set[str] = set()

    def heard(self, state: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._heard.update(self._socket.recv(4096).decode(errors="replace").splitlines())
        return state in self._heard

    def forget(self) -> None:
        """What was said is a former process's."""
        self.heard("")
        self._heard.clear()

    def close(self) -> None:
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108
