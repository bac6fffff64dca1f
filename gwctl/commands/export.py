"""`gwctl export`: what is live, or what files say, as one document in canonical form or in another format."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from gwctl.client import Target, client, target_options
from gwctl.commands.importing import put, tell
from gwctl.exits import Exit, Failure
from gwctl.files import read
from gwctl.problems import show

FORMATS: Final = ("routes", "openapi", "gateway-api")
Group = tuple[str, tuple[tuple[str, str], ...]]
"""An owner and labels: what one document can say once."""


@click.command()
@click.option(
    "--from", "source", type=click.Path(exists=True, path_type=Path), help="A file or directory, not the server."
)
@click.option(
    "--format", "kind", type=click.Choice(FORMATS), default="routes", show_default=True, help="Which language."
)
@click.option("--owner", help="Only the objects of this owner.")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to; else it is printed.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="A directory for a file of each owner and set of labels.",
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
@click.option("--strict", is_flag=True, help="Write nothing and exit with 3 if anything was lost.")
@click.option("--losses", type=click.Choice(["text", "json"]), default="text", help="How to list what was lost.")
@target_options
@click.pass_context
def export(
    ctx: click.Context,
    source: Path | None,
    kind: str,
    owner: str | None,
    out: Path | None,
    directory: Path | None,
    force: bool,
    strict: bool,
    losses: str,
    target: Target,
) -> None:
    """Print what is live as one file (or as several, --dir): applying them changes nothing."""
    objects = [one for one in _objects(source, target) if owner in (None, one["owner"])]
    if kind == "routes" and directory is not None:
        _write_each(directory, _grouped(objects), force=force)
        return
    if kind == "routes":
        put(_as_one(objects), out, force=force)
        return
    from gwctl.exporting.convert import convert

    made = convert(kind, _merged(objects))
    tell(made.losses, kind, losses)
    if strict and made.losses:
        ctx.exit(Exit.INVALID)
    put(made.text, out, force=force)


def _objects(source: Path | None, target: Target) -> list[dict[str, Any]]:
    """Objects with `kind`, `name`, `owner`, `labels` and `body`."""
    return _of_files(source) if source is not None else _of_server(target)


def _of_server(target: Target) -> list[dict[str, Any]]:
    server = client(target)
    newest = server.get("/v1/revisions", limit=1)["revisions"]
    if not newest:
        raise Failure(Exit.FAILED, "nothing was applied yet", "`gwctl apply FILE` puts a document live")
    found: list[dict[str, Any]] = server.get(f"/v1/revisions/{newest[0]['revision']}")["objects"]
    return found


def _of_files(source: Path) -> list[dict[str, Any]]:
    from gateway.read import load

    files = read([source])
    loaded = load(files)
    if loaded.gateway is None:
        show(loaded.problems, files)
        raise Failure(Exit.INVALID, f"{source} is not valid, so it was not exported")
    return [
        {"kind": one.kind, "name": one.name, "owner": one.owner, "labels": dict(one.labels), "body": one.body}
        for one in loaded.objects
    ]


def _as_one(objects: Iterable[Mapping[str, Any]]) -> str:
    groups = _grouped(objects)
    if len(groups) > 1:
        owners = ", ".join(dict.fromkeys(owner for owner, _ in groups))
        message = f"the objects (of {owners}) have {len(groups)} sets of owner and labels: one file can say one"
        raise Failure(Exit.FAILED, message, "--dir DIR writes a file of each; --owner NAME leaves out other owners")
    if not groups:
        raise Failure(Exit.FAILED, "there is nothing to export")
    ((group, mine),) = groups.items()
    return _text(group, mine)


def _write_each(directory: Path, groups: Mapping[Group, list[Mapping[str, Any]]], *, force: bool) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in _as_files(groups):
        put(text, directory / f"{name}.yaml", force=force)


def as_files(objects: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """A name and a document for each owner and set of labels."""
    return _as_files(_grouped(objects))


def _as_files(groups: Mapping[Group, list[Mapping[str, Any]]]) -> Iterator[tuple[str, str]]:
    from gwctl.importing.draft import unique

    taken: list[str] = []
    for group, mine in groups.items():
        taken.append(unique("-".join([group[0], *(value for _, value in group[1])]), taken))
        yield taken[-1], _text(group, mine)


def _text(group: Group, mine: Iterable[Mapping[str, Any]]) -> str:
    from gwctl.formatting import dump

    owner, labels = group
    return dump({"version": 1, "owner": owner, **({"labels": dict(labels)} if labels else {}), **_merged(mine)})


def _grouped(objects: Iterable[Mapping[str, Any]]) -> dict[Group, list[Mapping[str, Any]]]:
    groups: dict[Group, list[Mapping[str, Any]]] = {}
    for one in objects:
        groups.setdefault((one["owner"], tuple(sorted(one["labels"].items()))), []).append(one)
    return groups


def _merged(objects: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The collections of a document, without its head."""
    from gateway.document import KINDS, SINGLE

    made: dict[str, Any] = {}
    for one in sorted(objects, key=lambda one: (KINDS.index(one["kind"]), one["name"])):
        if one["kind"] in SINGLE:
            made[one["kind"]] = one["body"]
        else:
            made.setdefault(one["kind"], {})[one["name"]] = one["body"]
    return made
