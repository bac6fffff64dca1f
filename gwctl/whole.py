"""Writing a file as a whole or not at all, so that nobody ever reads half of one."""

import contextlib
import os
import tempfile
from pathlib import Path

from gwctl.exits import Exit, Failure


def write_whole(path: Path, text: str) -> None:
    """Replaces the file (what a link leads to, if it is one), keeping its permissions. Raises Failure 1."""
    target = path.resolve()
    try:
        _replace(target, text.encode())
    except OSError as error:
        raise Failure(Exit.FAILED, f"{path} cannot be written: {error.strerror}") from None


def _replace(target: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), _mode(target))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _mode(target: Path) -> int:
    """The permissions that the file has, or that a new one gets."""
    try:
        return target.stat().st_mode & 0o7777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
