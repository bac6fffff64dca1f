"""TCP ports for a whole gateway on one machine, chosen so that nobody is likely to take them in between."""

import random
import socket
from typing import Final

# Below what systems hand out to outgoing connections (Linux: 32768 and up), which could take a port before its server.
RANGE: Final = range(20_000, 32_000)


class Ports:
    """Hands out each port once."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.address = address
        self._taken: set[int] = set()

    def take(self, wanted: int) -> int | None:
        """`wanted` if it is free and was not handed out, else None."""
        if wanted in self._taken or not is_free(wanted, self.address):
            return None
        self._taken.add(wanted)
        return wanted

    def any(self, *wanted: int) -> int:
        """The first of `wanted` that is free, else some free port."""
        candidates = (*wanted, *random.sample(RANGE, 200))
        found = next((port for port in map(self.take, candidates) if port is not None), None)
        if found is None:
            raise OSError(f"no free port on {self.address}")
        return found


def is_free(port: int, address: str = "127.0.0.1", *, shared: bool = False) -> bool:
    """Whether a server could listen there now. `shared`: beside others who share it too (SO_REUSEPORT)."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def answers(port: int, address: str = "127.0.0.1") -> bool:
    """Whether a server accepts connections there."""
    try:
        socket.create_connection((address, port), timeout=1.0).close()
    except OSError:
        return False
    return True
