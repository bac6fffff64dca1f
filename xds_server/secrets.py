"""The secret store: a directory with one file per secret, readable by the control plane only.

    NAME                 the raw bytes of an HMAC key (nothing is trimmed)
    NAME.crt, NAME.key   a certificate chain and its private key, PEM
    NAME.ca              certificates of authorities, PEM
    NAME.crl             certificates that an authority has revoked, PEM

Values go into Envoy's configuration and nowhere else: not into the database, an error or a log.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import certifi
import structlog

from gateway.secrets import SYSTEM_CA
from xds_server.compiler.settings import CaBundle, Certificate, HmacKey, RevocationList, Secret

log = structlog.get_logger(__name__)

LARGEST: Final = 1 << 20  # bytes; a longer file is not a secret
_FILE: Final = re.compile(r"([a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?)(\.crt|\.key|\.ca|\.crl)?")

Stamp = tuple[tuple[str, int, int, int], ...]
"""Name, modification time (ns), size and inode of each file: differs when a secret was written."""


class SecretStore:
    """Reads the directory anew each time it is asked; one that is missing is an empty store."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def stamp(self) -> Stamp:
        """Equal as long as nothing changed. Raises OSError for a directory that cannot be read."""
        found = [(path.name, path.stat()) for path in self._files()]
        return tuple((name, status.st_mtime_ns, status.st_size, status.st_ino) for name, status in found)

    def read(self) -> Mapping[str, Secret]:
        """Every complete secret. A name that could be two of them is none: what refers to it fails closed."""
        parts: dict[str, dict[str, bytes]] = {}
        for path in self._files():
            found = _FILE.fullmatch(path.name)
            if found is not None and path.stat().st_size <= LARGEST:
                parts.setdefault(found[1], {})[found[2] or ""] = path.read_bytes()
        secrets = {name: _secret(name, files) for name, files in parts.items()}
        whole = {name: secret for name, secret in secrets.items() if secret is not None}
        return {SYSTEM_CA: system_authorities(), **whole}

    def hmac_key(self, name: str) -> bytes | None:
        """The key of that name, for signing with it."""
        secret = self.read().get(name)
        return secret.value if isinstance(secret, HmacKey) else None

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self.directory.iterdir() if path.is_file())
        except FileNotFoundError:
            return []


@cache
def system_authorities() -> CaBundle:
    """The authorities that browsers trust (Mozilla's list, as certifi ships it)."""
    return CaBundle(certifi.contents().encode())


def _secret(name: str, files: Mapping[str, bytes]) -> Secret | None:
    match files:
        case {"": value, **others} if not others:
            return HmacKey(value)
        case {".crt": chain, ".key": key, **others} if not others:
            return Certificate(chain, key)
        case {".ca": pem, **others} if not others:
            return CaBundle(pem)
        case {".crl": pem, **others} if not others:
            return RevocationList(pem)
    log.warning("secret_ignored", name=name, files=sorted(name + suffix for suffix in files))
    return None
