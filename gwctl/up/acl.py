"""Who may do what in the Valkey of `gwctl up`: the decision services count and keep responses, and nothing else.

Whoever takes over a decision service can spoil counters then, but neither read the server's settings, nor stop it, nor
make it write files. The passwords are files of their own, so that no URL, command line or environment holds one.
"""

import hashlib
import secrets
from pathlib import Path
from typing import Final
from urllib.parse import quote

from gwctl.up.state import write_private

SERVICE: Final = "tollhouse"
ADMIN: Final = "default"
KEYS: Final = ("~rl:*", "~cache:*", "~quota:*")
SCRIPTS: Final = ("+evalsha", "+eval", "+script|load")
OF_COUNTERS: Final = (
    "+get", "+set", "+time", "+del", "+pexpire", "+lindex", "+llen", "+lpop", "+lrange", "+lset", "+ltrim",
    "+rpop", "+rpush",
)  # fmt: skip
OF_RESPONSES: Final = ("+unlink", "+info")
OF_CONNECTIONS: Final = ("+client|setname",)
OF_CLUSTERS: Final = ("+cluster|slots", "+command", "+asking")
ALLOWED: Final = ("resetchannels", *KEYS, "-@all", *SCRIPTS, *OF_COUNTERS, *OF_RESPONSES, *OF_CONNECTIONS, *OF_CLUSTERS)


class Users:
    """Two users with their password files in `directory`. `file` is for the server's `aclfile`."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "users.acl"
        self.password_file = directory / "password"
        self.admin_password_file = directory / "admin-password"

    def write(self) -> None:
        """Passwords are made once and kept."""
        rules = {SERVICE: (self.password_file, ALLOWED), ADMIN: (self.admin_password_file, ("~*", "&*", "+@all"))}
        lines = [f"user {name} on #{_digest(_password(file))} {' '.join(may)}" for name, (file, may) in rules.items()]
        write_private(self.file, "".join(f"{line}\n" for line in lines).encode())

    @property
    def query(self) -> str:
        """What makes a URL the service's."""
        return f"username={SERVICE}&password_file={quote(str(self.password_file), safe='/')}"


def _password(file: Path) -> bytes:
    if not file.exists():
        write_private(file, secrets.token_hex(32).encode())
    return file.read_bytes().strip()


def _digest(password: bytes) -> str:
    return hashlib.sha256(password).hexdigest()
