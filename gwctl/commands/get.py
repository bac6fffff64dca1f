"""`gwctl get`: objects of a revision as they were written; of a route also what applies to it, and where that is."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import click

from gwctl.client import Target, client, target_options
from gwctl.commands.diff import HEAD, number
from gwctl.commands.undo import Revision
from gwctl.exits import Exit, Failure
from gwctl.output import emit, output_option, table

COLUMNS: Final = ("name", "owner", "labels", "file")
SETTINGS: Final = ("field", "value", "level", "place")
ROUTES: Final = "routes"


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
@click.option("--revision", type=Revision(), help="Of this one; by default the current.")
@click.option("--effective", is_flag=True, help="What applies to the route MODULE/ROUTE, and where that is written.")
@target_options
@output_option
def get(kind: str, name: str | None, revision: int | None, effective: bool, target: Target, output: str) -> None:
    """Show objects of KIND (modules, upstreams, …; `routes` for all modules'), or the one called NAME as written."""
    kinds = _kinds()
    if kind not in kinds:
        raise click.BadParameter(f"{kind!r} is none of {', '.join(kinds)}", param_hint="KIND")
    if effective and (kind != ROUTES or name is None or name.count("/") != 1):
        raise click.UsageError("--effective is for one route: gwctl get routes MODULE/ROUTE --effective")
    server = client(target)
    asked = number(server, HEAD) if revision is None else revision
    if effective:
        found = server.get(f"/v1/revisions/{asked}/routes/{quote(name or '')}")
        emit(output, "get.effective", found, lambda: table(SETTINGS, [_setting(one) for one in found["settings"]]))
        return
    objects = server.get(f"/v1/revisions/{asked}")["objects"]
    shown = [one for one in _of_kind(objects, kind) if name in (None, one["name"])]
    if name is not None and not shown:
        raise Failure(Exit.FAILED, f"revision {asked} has no {name} among its {kind}")
    document = {"revision": asked, "objects": shown}
    if name is not None:
        emit(output, "get", document, lambda: _as_written(kind, shown[0]))
    else:
        emit(output, "get", document, lambda: table(COLUMNS, [_row(one) for one in shown]))


def _kinds() -> Sequence[str]:
    from gateway.document import KINDS

    return (*KINDS, ROUTES)


def _of_kind(objects: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    if kind != ROUTES:
        return [one for one in objects if one["kind"] == kind]
    return [
        {**module, "kind": ROUTES, "name": f"{module['name']}/{route}", "body": body}
        for module in objects
        if module["kind"] == "modules"
        for route, body in module["body"].get(ROUTES, {}).items()
    ]


def _as_written(kind: str, one: Mapping[str, Any]) -> str:
    import yaml

    name = one["name"]
    body = {name.partition("/")[2] if kind == ROUTES else name: one["body"]}
    return yaml.safe_dump(one["body"] if kind == name else body, sort_keys=False, allow_unicode=True)


def _row(one: Mapping[str, Any]) -> tuple[object, ...]:
    labels = ",".join(f"{name}={value}" for name, value in one["labels"].items())
    return one["name"], one["owner"], labels or None, one["file"]


def _setting(one: Mapping[str, Any]) -> tuple[object, ...]:
    value = one["value"] if isinstance(one["value"], str) else json.dumps(one["value"], ensure_ascii=False)
    return one["field"], value, one["level"], one["place"]
