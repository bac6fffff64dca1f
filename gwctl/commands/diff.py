"""`gwctl diff`: what is different between two revisions, or between one and files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from gwctl.client import Client, Target, client, target_options
from gwctl.commands.plan import PLAN_FORMATS, put
from gwctl.exits import Exit, Failure
from gwctl.files import File, read
from gwctl.output import output_of

HEAD: Final = "HEAD"
DIFF_SECONDS: Final = 120.0


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("--xds", is_flag=True, help="Show how Envoy's resources differ too.")
@click.option("--exit-code", is_flag=True, help="Exit with 2 if there are differences.")
@target_options
@output_of(PLAN_FORMATS)
@click.pass_context
def diff(ctx: click.Context, old: str, new: str, xds: bool, exit_code: bool, target: Target, output: str) -> None:
    """Show what is different in NEW. Each is a revision (HEAD, @217; @0 is the empty one), a file or a directory."""
    for written in (old, new):
        if not (is_revision(written) or written == "-" or Path(written).exists()):
            raise click.UsageError(f"{written!r} is no revision (HEAD, @217) and no file.")
    found = _compared(old, new, target, xds=xds)
    put(found, output)
    if exit_code and found["changes"]:
        ctx.exit(Exit.CHANGES)


def _compared(old: str, new: str, target: Target, *, xds: bool) -> Mapping[str, Any]:
    if is_revision(old) and is_revision(new):
        server = client(target)
        path = f"/v1/revisions/{number(server, old)}/diff/{number(server, new)}"
        found: dict[str, Any] = server.get(path, timeout=DIFF_SECONDS, **({"xds": "true"} if xds else {}))
        return found
    from gwctl.planning.offline import difference_of

    return difference_of(_side(old, target), _side(new, target), xds=xds)


def is_revision(written: str) -> bool:
    return written == HEAD or (written[:1] == "@" and written[1:].isdecimal())


def number(server: Client, written: str) -> int:
    """Raises Failure 1 for HEAD when nothing was applied."""
    if written != HEAD:
        return int(written[1:])
    newest = server.get("/v1/revisions", limit=1)["revisions"]
    if not newest:
        raise Failure(Exit.FAILED, "nothing was applied yet", "`gwctl apply FILE` puts a document live")
    return int(newest[0]["revision"])


def _side(written: str, target: Target) -> list[File]:
    """The files; of a revision one for each owner and set of labels, as `gwctl export` writes them."""
    if not is_revision(written):
        return read([Path(written)])
    from gwctl.commands.export import as_files

    server = client(target)
    revision = number(server, written)
    objects = server.get(f"/v1/revisions/{revision}")["objects"] if revision else []
    return [File(f"@{revision}/{name}.yaml", text) for name, text in as_files(objects)]
