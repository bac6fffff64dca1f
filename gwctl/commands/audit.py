"""`gwctl audit`: who did what, and whether the log still says what it said."""

import json
from collections.abc import Iterator
from typing import Any, Final

import click

from gwctl.client import Client, Target, client, target_options
from gwctl.exits import Exit, Failure
from gwctl.output import emit, output_option, table

COLUMNS: Final = ("number", "at", "actor", "action", "object", "revision")
PAGE: Final = 500
VERIFY_SECONDS: Final = 120.0


class Head(click.ParamType[tuple[int, str]]):
    """`NUMBER:HASH`, as `gwctl audit verify` prints it."""

    name = "number:hash"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, str]:
        number, _, found = str(value).partition(":")
        if not (number.isascii() and number.isdecimal() and int(number) > 0 and found):
            self.fail(f"{value!r} is not like 218:5f0c…", param, ctx)
        return int(number), found


@click.group()
def audit() -> None:
    """Read the audit log, and check that nobody changed it."""


@audit.command(name="list")
@click.option("-n", "--limit", type=click.IntRange(1, PAGE), default=20, show_default=True, help="How many at most.")
@click.option("--before", type=click.IntRange(1), help="Only entries with a smaller number.")
@target_options
@output_option
def list_(limit: int, before: int | None, target: Target, output: str) -> None:
    """List who did what, the newest first."""
    found = client(target).get("/v1/audit", limit=limit, before=before)
    rows = [[entry[column] for column in COLUMNS] for entry in found["entries"]]
    emit(output, "audit.list", found, lambda: table(COLUMNS, rows))


@audit.command()
@click.option(
    "--kept", type=Head(), help="NUMBER:HASH from an earlier time, kept elsewhere: the log must still have it."
)
@target_options
@output_option
def verify(kept: tuple[int, str] | None, target: Target, output: str) -> None:
    """Walk the whole chain of hashes; exit 1 if an entry was changed, removed or put in."""
    server = client(target)
    found = server.get("/v1/audit/verify", timeout=VERIFY_SECONDS)
    if not found["ok"]:
        if output != "table":
            emit(output, "audit.verify", found, str)
        raise Failure(Exit.FAILED, f"the audit log was tampered with, at entry {found['number']}: {found['why']}")
    if kept is not None and _hash(server, kept[0]) != kept[1]:
        raise Failure(Exit.FAILED, f"entry {kept[0]} is not the one of {kept[1]} any more: the log was written anew")
    head = found["head"]
    whole = f"{found['rows']} entries, and no one was changed"
    emit(output, "audit.verify", found, lambda: f"{whole}\nhead {head['number']}:{head['hash']}" if head else whole)


@audit.command()
@click.option("--after", type=click.IntRange(0), default=0, help="Only entries with a greater number.")
@target_options
def export(after: int, target: Target) -> None:
    """Print the log as JSON lines, the oldest entry first."""
    for entry in reversed(list(_entries(client(target), after))):
        click.echo(json.dumps(entry, ensure_ascii=False))


def _entries(server: Client, after: int) -> Iterator[dict[str, Any]]:
    """The newest first, page by page."""
    before: int | None = None
    while True:
        found = server.get("/v1/audit", limit=PAGE, before=before)
        yield from (entry for entry in found["entries"] if entry["number"] > after)
        before = found["next"]
        if before is None or before <= after + 1:
            return


def _hash(server: Client, number: int) -> str | None:
    """The hash of that entry; None if there is none."""
    found = server.get("/v1/audit", limit=1, before=number + 1)["entries"]
    return str(found[0]["hash"]) if found and found[0]["number"] == number else None
