"""`gwctl import`: from another gateway's configuration to a document of ours, with a list of what is not in it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gwctl.exits import Exit, Failure
from gwctl.files import read
from gwctl.output import say

if TYPE_CHECKING:
    from gwctl.importing.convert import Converted
    from gwctl.importing.source import Loss

WORDS: Final = {"lost": "lost", "changed": "changed", "value": "needs a value"}
_FILE: Final = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)


class ImportGroup(click.Group):
    """One command a format, all alike."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from gwctl.importing.convert import FORMATS

        return list(FORMATS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from gwctl.importing.convert import FORMATS

        return _command(cmd_name, FORMATS[cmd_name]) if cmd_name in FORMATS else None


@click.group(name="import", cls=ImportGroup)
def group() -> None:
    """Convert another gateway's configuration. What cannot be converted is listed, all of it."""


def _command(kind: str, what: str) -> click.Command:
    @click.command(name=kind, help=f"Convert FILE, {what}. Exits with 0 even if something was lost; see --strict.")
    @click.argument(
        "path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
    )
    @click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to; else it is printed.")
    @click.option("--force", is_flag=True, help="Overwrite the file.")
    @click.option("--strict", is_flag=True, help="Write nothing and exit with 3 if anything was lost.")
    @click.option("--losses", type=click.Choice(["text", "json"]), default="text", help="How to list what was lost.")
    @click.pass_context
    def command(ctx: click.Context, path: Path, out: Path | None, force: bool, strict: bool, losses: str) -> None:
        made = converted(kind, path)
        tell(made.losses, kind, losses)
        if strict and made.losses:
            ctx.exit(Exit.INVALID)
        text = text_of(made.document, path, kind)
        put(text, out, force=force)
        if not valid(text):
            ctx.exit(Exit.INVALID)

    return command


def valid(text: str) -> bool:
    """Whether what was made is a gateway; if not, what is wrong with it is told."""
    from gateway.read import load
    from gwctl.files import File
    from gwctl.problems import show

    loaded = load([("<result>", text)])
    if loaded.gateway is None:
        show((one for one in loaded.problems if one.severity == "error"), [File("<result>", text)])
        say("the result is not valid yet")
    return loaded.gateway is not None


def converted(kind: str, path: Path) -> "Converted":
    """Raises Failure 3 for what is not of that format."""
    from gwctl.importing.convert import NotThatFormat, convert

    (file,) = read([path])
    try:
        return convert(kind, file.text)
    except NotThatFormat as wrong:
        raise Failure(Exit.INVALID, f"{file.name} cannot be imported: {wrong}") from None


def tell(losses: "Sequence[Loss]", kind: str, how: str = "text") -> None:
    """What was lost, on standard error."""
    if how == "json":
        found: list[dict[str, Any]] = [{"kind": loss.kind, "path": loss.place, "why": loss.why} for loss in losses]
        say(json.dumps({"schema": "gwctl.import/v1", "format": kind, "losses": found}, indent=2, ensure_ascii=False))
        return
    for loss in losses:
        say(f"{WORDS[loss.kind]}: {loss.place}: {loss.why}")
    if losses:
        counts = [(sum(loss.kind == kind for loss in losses), word) for kind, word in WORDS.items()]
        say(", ".join(f"{number} {word}" for number, word in counts if number))


def text_of(document: dict[str, Any], path: Path, kind: str) -> str:
    from gwctl.formatting import dump

    name = "standard input" if str(path) == "-" else path.name
    return f"# Imported by `gwctl import {kind}` from {name}\n\n{dump(document)}"


def put(text: str, out: Path | None, *, force: bool) -> None:
    """Prints the text, or writes it into a file that is not there yet. Raises Failure 1."""
    from gwctl.whole import write_whole

    if out is None or str(out) == "-":
        click.echo(text, nl=False)
        return
    if out.exists() and not force:
        raise Failure(Exit.FAILED, f"{out} is there already", "--force overwrites it")
    write_whole(out, text)
    say(f"wrote {out}")
