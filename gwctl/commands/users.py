"""`gwctl users`: lines for the secrets that `basic_auth` names."""

import sys

import click

from gateway.passwords import LONGEST, MEMORY_COST, PARALLELISM, TIME_COST, is_user_name
from gwctl.exits import Exit, Failure


@click.group()
def users() -> None:
    """Make lines for files of users and passwords."""


@users.command(name="hash")
@click.argument("name")
def hash_(name: str) -> None:
    """Print the line `NAME:hash` for a password, which is asked for or read from standard input.

    Append it to the file in the secret store that the document calls `users_secret`.
    """
    from argon2 import PasswordHasher

    if not is_user_name(name):
        raise Failure(Exit.INVALID, f"{name!r} is not a user name", "letters, digits and ._@+-, at most 128")
    password = _password()
    if not 0 < len(password) <= LONGEST:
        raise Failure(Exit.INVALID, f"a password has 1 to {LONGEST} characters")
    hasher = PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_COST, parallelism=PARALLELISM)
    click.echo(f"{name}:{hasher.hash(password)}")


def _password() -> str:
    """Never from the command line: arguments are seen by everybody on the machine."""
    if sys.stdin.isatty():
        typed: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return typed
    return sys.stdin.readline().rstrip("\r\n")
