"""Data on standard output, talk on standard error. Every JSON document names its shape: `gwctl.<command>/v1`."""

import functools
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FORMATS: Final = ("table", "json", "yaml")
F = TypeVar("F", bound=Callable[..., Any])


def output_option(command: F) -> F:
    """`-o table|json|yaml`, as the argument `output`."""
    return output_of(FORMATS)(command)


def output_of(formats: Sequence[str]) -> Callable[[F], F]:
    """`-o` for a command with formats of its own."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(formats),
        default="table",
        envvar="GWCTL_OUTPUT",
        show_envvar=True,
        help="How to print the result.",
    )


def emit(output: str, shape: str, document: dict[str, Any], people: Callable[[], "str | Table"]) -> None:
    """Prints `document` as JSON or YAML with its `schema`, or what `people` makes of it. `shape`: `keys.list`."""
    if output == "table":
        shown = people()
        if isinstance(shown, str):
            click.echo(shown, nl=not shown.endswith("\n"))
        else:
            console().print(shown)
        return
    whole = {"schema": f"gwctl.{shape}/v1", **document}
    if output == "json":
        click.echo(json.dumps(whole, indent=2, ensure_ascii=False))
    else:
        import yaml

        click.echo(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True), nl=False)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> "Table":
    """A table without lines around it, for reading and for `awk`."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column.upper(), overflow="fold")
    for row in rows:
        made.add_row(*(Text("-" if cell is None else str(cell)) for cell in row))
    return made


@functools.cache
def console(*, err: bool = False) -> "Console":
    """rich's console; it minds NO_COLOR, FORCE_COLOR, TERM and COLUMNS. A pipe gets lines of any length."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    return Console(stderr=err, highlight=False, width=None if stream.isatty() else 1000)


def say(text: str) -> None:
    """A line of talk, on standard error."""
    click.echo(text, err=True)
