"""`gwctl plan`: what an apply would change, before it does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from gwctl.client import Target, client, target_options
from gwctl.exits import Exit
from gwctl.files import File, chosen, files_argument, read
from gwctl.output import FORMATS, emit, output_of, say

PLAN_FORMATS: Final = (*FORMATS, "text", "markdown")


@click.command()
@files_argument
@click.option("--prune", is_flag=True, help="Delete this owner's objects that the files do not write.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Save it, for `apply --plan`.")
@click.option("--expect-revision", type=int, help="Refuse if the current revision is another one.")
@click.option("--offline", is_flag=True, help="Without a server: compare with the files of --base.")
@click.option(
    "--base", type=click.Path(exists=True, path_type=Path), multiple=True, help="A file or directory of what there is."
)
@click.option("--no-envoy", is_flag=True, help="Do not ask a real Envoy whether it would accept the result.")
@click.option("--xds", is_flag=True, help="Show how Envoy's resources differ too.")
@click.option("--exit-code", is_flag=True, help="Exit with 2 if there are changes.")
@target_options
@output_of(PLAN_FORMATS)
@click.pass_context
def plan(
    ctx: click.Context,
    paths: tuple[Path, ...],
    more: tuple[Path, ...],
    prune: bool,
    out: Path | None,
    expect_revision: int | None,
    offline: bool,
    base: tuple[Path, ...],
    no_envoy: bool,
    xds: bool,
    exit_code: bool,
    target: Target,
    output: str,
) -> None:
    """Show what applying FILE... would change, in the document, in Envoy and for callers. Stores nothing."""
    if offline != bool(base):
        raise click.UsageError("--offline and --base go together.")
    if offline and out is not None:
        raise click.UsageError("--out needs a server: a plan without one cannot be applied.")
    files = read(chosen(paths, more))
    if offline:
        found = _offline(read(base), files, prune=prune, no_envoy=no_envoy, xds=xds)
    else:
        request: dict[str, Any] = {"prune": prune, "envoy": not no_envoy, "xds": xds}
        if expect_revision is not None:
            request["expected_revision"] = expect_revision
        found = _asked(target, files, request)
    if out is not None:
        _save(out, files, found, prune=prune)
    put(found, output)
    if exit_code and found["changes"]:
        ctx.exit(Exit.CHANGES)


def put(found: Mapping[str, Any], output: str) -> None:
    """Prints a plan, or what is different, in the form that was asked for."""
    if output == "markdown":
        from gwctl.planning.markdown import markdown

        click.echo(markdown(found), nl=False)
        return
    from gwctl.planning.text import text

    emit("table" if output == "text" else output, "plan", dict(found), lambda: text(found))


def _offline(
    base: Sequence[File], files: Sequence[File], *, prune: bool, no_envoy: bool, xds: bool
) -> Mapping[str, Any]:
    from gwctl.planning.offline import compared
    from xds_server.validate import find_envoy

    return compared(base, files, prune=prune, envoy=None if no_envoy else find_envoy(), xds=xds)


def _asked(target: Target, files: Sequence[File], request: Mapping[str, Any]) -> Mapping[str, Any]:
    from gwctl.planning.saved import ask

    return ask(client(target), files, request)


def _save(out: Path, files: Sequence[File], found: Mapping[str, Any], *, prune: bool) -> None:
    from gwctl.planning.saved import Saved, write

    write(out, Saved(tuple(files), prune, found))
    say(f"saved; `gwctl apply --plan {out}` applies exactly this")
