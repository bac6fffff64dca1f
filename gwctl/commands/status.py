"""`gwctl status`: which revision is live, and which Envoy has it."""

from typing import Any

import click

from gwctl.client import Target, client, target_options
from gwctl.exits import Exit
from gwctl.output import console, emit, output_option, table
from gwctl.problems import from_json, show


@click.command()
@click.option("--exit-code", is_flag=True, help="Exit with 5 if the revision failed or was halted or rejected.")
@target_options
@output_option
@click.pass_context
def status(ctx: click.Context, exit_code: bool, target: Target, output: str) -> None:
    """Show the current revision and who has it."""
    found = client(target).get("/v1/status")
    if output == "table":
        _for_people(found)
    else:
        emit(output, "status", found, str)
    if exit_code and (found["state"] in ("failed", "nacked") or halted(found)):
        ctx.exit(Exit.HALTED)


def halted(found: dict[str, Any]) -> bool:
    return found["rollout"] is not None and found["rollout"]["state"] == "halted"


def _for_people(found: dict[str, Any]) -> None:
    published = found["published"]
    click.echo(f"revision {found['revision']}: {found['state']}" + (f" ({published['version']})" if published else ""))
    if published and published["from_disk"]:
        click.echo(f"serving revision {published['revision']} from disk, as published at {published['at']}")
    if found["rollout"]:
        rollout = found["rollout"]
        click.echo(f"rollout of revision {rollout['revision']}: {rollout['state']}, wave {rollout['wave']}")
    if not found["database"]["reachable"]:
        click.echo(f"database: cannot be reached ({found['database']['error']})")
    if found["failure"]:
        click.echo(f"revision {found['failure']['revision']} is not published: {found['failure']['reason']}")
        show(map(from_json, found["failure"]["problems"]), ())
    if published:
        show(map(from_json, published["problems"]), ())
    if found["nodes"]:
        console().print(table(("node", "state", "envoy", "since", "rejected"), [_row(node) for node in found["nodes"]]))
    else:
        click.echo("no Envoy is connected")
    for node in found["nodes"]:
        for warning in node["warnings"]:
            click.echo(f"{node['id']}: {warning}")


def _row(node: dict[str, Any]) -> tuple[object, ...]:
    nacks = [f"{url.rpartition('.')[2]}: {t['nack']['message']}" for url, t in node["types"].items() if t["nack"]]
    return node["id"], node["state"], node["build"], node["since"], "; ".join(nacks) or None
