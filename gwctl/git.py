"""Which git commit files are, for the history: `0123abcd…`, with `-dirty` if they are not what was committed."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

SECONDS: Final = 10.0


def commit_of(paths: Sequence[Path]) -> str:
    """Empty without git, outside of a repository, for standard input, and for files of several commits.

    Only these paths count: what else is unfinished in the repository is not applied.
    """
    if any(str(path) == "-" for path in paths):
        return ""
    commits = {_git(_directory(path), "rev-parse", "--verify", "--quiet", "HEAD") for path in paths}
    if len(commits) != 1 or not (commit := commits.pop()):
        return ""
    return f"{commit}-dirty" if any(map(_dirty, paths)) else commit


def _dirty(path: Path) -> bool:
    """Untracked files count as well, ignored ones too: no commit has them."""
    name = "." if path.is_dir() else path.name
    return _git(_directory(path), "status", "--porcelain", "--ignored", "--", name) != ""


def _directory(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _git(directory: Path, *arguments: str) -> str:
    """What git says; empty if it fails or there is none."""
    command = ["git", "--no-optional-locks", "-C", str(directory), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
