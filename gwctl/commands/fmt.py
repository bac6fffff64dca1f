"""`gwctl fmt`: the canonical form of files."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import click

from gwctl.exits import Exit, Failure
from gwctl.files import STDIN, File, chosen, files_argument, read
from gwctl.output import emit, output_option, say
from gwctl.problems import show
from gwctl.whole import write_whole


@click.command()
@files_argument
@click.option("--check", is_flag=True, help="Write nothing; print what would change, and exit with 3 if anything.")
@output_option
@click.pass_context
def fmt(ctx: click.Context, paths: tuple[Path, ...], more: tuple[Path, ...], check: bool, output: str) -> None:
    """Bring FILE... into the canonical form: keys in the language's order, two spaces a level, comments kept.

    Standard input (`-`) is printed. A file that is not YAML is never written, and then no other file is either.
    """
    files = read(chosen(paths, more))
    changed = [(file, made) for file, made in zip(files, _formatted(files), strict=True) if made != file.text]
    if check:
        emit(output, "fmt", {"changed": [file.name for file, _ in changed]}, lambda: "".join(map(_diff, changed)))
        ctx.exit(Exit.INVALID if changed else Exit.DONE)
    for file, made in changed:
        if file.name != STDIN:
            write_whole(Path(file.name), made)
            say(f"formatted {file.name}")
    for file in files:
        if file.name == STDIN:
            click.echo(dict(changed).get(file, file.text), nl=False)


def _formatted(files: Sequence[File]) -> list[str]:
    from gwctl.formatting import Changed, Unreadable, canonical

    made = []
    for file in files:
        try:
            made.append(canonical(file.name, file.text))
        except Unreadable as wrong:
            show(wrong.problems, [file])
            raise Failure(Exit.INVALID, f"{file.name} cannot be read, so nothing was written") from None
        except Changed as changed:
            raise Failure(Exit.FAILED, str(changed)) from None
    return made


def _diff(change: tuple[File, str]) -> str:
    file, made = change
    lines = difflib.unified_diff(
        file.text.splitlines(keepends=True), made.splitlines(keepends=True), file.name, f"{file.name} (formatted)"
    )
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)
