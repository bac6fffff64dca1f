"""Exit codes: stable, the same for every output format. `gwctl help exit-codes` prints this table."""

from enum import IntEnum
from typing import Final

import click


class Exit(IntEnum):
    DONE = 0
    FAILED = 1
    CHANGES = 2
    INVALID = 3
    CONFLICT = 4
    HALTED = 5
    TIMEOUT = 6
    DENIED = 7
    UNREACHABLE = 8
    USAGE = 64
    INTERRUPTED = 130


MEANING: Final = {
    Exit.DONE: "done, or nothing to do",
    Exit.FAILED: "failed",
    Exit.CHANGES: "changes are present (only with --exit-code)",
    Exit.INVALID: "the input is invalid",
    Exit.CONFLICT: "conflict: another owner's object, or the revision has moved",
    Exit.HALTED: "the rollout was halted or undone: an Envoy rejected it (NACK), or did not answer",
    Exit.TIMEOUT: "timed out waiting",
    Exit.DENIED: "not authenticated, or not allowed",
    Exit.UNREACHABLE: "the server cannot be reached",
    Exit.USAGE: "wrong usage of the command line",
    Exit.INTERRUPTED: "interrupted",
}


class Failure(click.ClickException):
    """Ends the command with `code`. The message goes to standard error, and after it what to do about it."""

    def __init__(self, code: Exit, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc]  # a class variable to click, who reads it here
        self.hint = hint

    def show(self, file: object = None) -> None:
        if self.message:
            click.echo(f"error: {self.message}", err=True)
        if self.hint:
            click.echo(f"  help: {self.hint}", err=True)
