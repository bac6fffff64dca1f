"""`gwctl rollout`: how far a change has come, and what to do about it."""

from typing import Any

import click

from gwctl import rollouts
from gwctl.client import Target, client, target_options
from gwctl.commands.undo import undo
from gwctl.exits import Exit
from gwctl.output import emit, output_option, table
from gwctl.seconds import Seconds

WAVES = ("wave", "state", "acked", "pending", "nacked", "stuck", "soak", "left")
ROLLOUTS = ("revision", "state", "from", "began", "ended", "reason")


@click.group()
def rollout() -> None:
    """Watch, stop and steer the way of a revision to the fleet."""


@rollout.command()
@click.option("--exit-code", is_flag=True, help="Exit with 5 if it is halted or was undone.")
@target_options
@output_option
@click.pass_context
def status(ctx: click.Context, exit_code: bool, target: Target, output: str) -> None:
    """Show the rollout that is open, else the last one, with its waves."""
    found = client(target).get("/v1/rollout")
    if output == "table":
        _for_people(found)
    else:
        emit(output, "rollout.status", found, str)
    if exit_code and found["rollout"] and found["rollout"]["state"] in ("halted", "rolled_back", "aborted"):
        ctx.exit(Exit.HALTED)


@rollout.command()
@click.option("--timeout", type=Seconds(), help="How long to wait, beside the soak times; by default for ever.")
@target_options
def watch(timeout: float | None, target: Target) -> None:
    """Follow the open rollout until it is done; exit 5 if it is halted."""
    server = client(target)
    found = server.get("/v1/rollout")["rollout"]
    if found is None:
        click.echo("there was no rollout yet")
        return
    rollouts.follow(server, found["revision"], timeout)


@rollout.command()
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="How many at most.")
@target_options
@output_option
def history(limit: int, target: Target, output: str) -> None:
    """List rollouts, the newest first."""
    found = client(target).get("/v1/rollouts", limit=limit)
    emit(output, "rollout.history", found, lambda: table(ROLLOUTS, [_row(one) for one in found["rollouts"]]))


@rollout.command()
@target_options
@output_option
def pause(target: Target, output: str) -> None:
    """Begin no further wave until it is resumed."""
    _act(target, output, "pause")


@rollout.command()
@target_options
@output_option
def resume(target: Target, output: str) -> None:
    """Go on. A halted rollout goes on without the nodes that halted it."""
    _act(target, output, "resume")


@rollout.command()
@click.option("--all", "everywhere", is_flag=True, help="Give it to all nodes, not to the next wave only.")
@target_options
@output_option
def promote(everywhere: bool, target: Target, output: str) -> None:
    """Begin the next wave now, whatever the one before is waiting for."""
    _act(target, output, "promote", {"everywhere": everywhere})


@rollout.command()
@target_options
@output_option
def abort(target: Target, output: str) -> None:
    """Go back to what all other nodes have, at once; that is a new revision."""
    _act(target, output, "abort")


rollout.add_command(undo)


@rollout.command()
@click.option("--reason", required=True, help="Why; others are told.")
@target_options
@output_option
def freeze(reason: str, target: Target, output: str) -> None:
    """Let no rollout begin or go on; what is applied is stored and waits."""
    found = client(target).put("/v1/rollout/freeze", {"reason": reason})
    frozen = found["frozen"]
    emit(output, "rollout.freeze", found, lambda: f"rollouts are frozen by {frozen['by']}: {frozen['reason']}")


@rollout.command()
@target_options
@output_option
def unfreeze(target: Target, output: str) -> None:
    """Let rollouts go on."""
    found = client(target).delete("/v1/rollout/freeze")
    said = "rollouts go on" if found["changed"] else "rollouts were not frozen"
    emit(output, "rollout.unfreeze", found, lambda: said)


def _act(target: Target, output: str, action: str, body: dict[str, Any] | None = None) -> None:
    found = client(target).post(f"/v1/rollout/{action}", body)
    emit(output, f"rollout.{action}", found, lambda: rollouts.line(found, None))


def _for_people(found: dict[str, Any]) -> None:
    one, frozen = found["rollout"], found["frozen"]
    if one is None:
        click.echo("there was no rollout yet" + (f"; frozen by {frozen['by']}: {frozen['reason']}" if frozen else ""))
        return
    click.echo(rollouts.line(one, frozen))
    if one["reason"]:
        click.echo(f"halted: {one['reason']}")
    emit("table", "rollout.status", found, lambda: table(WAVES, [_wave(wave) for wave in one["waves"]]))
    for wave in one["waves"]:
        for kind in ("nacked", "stuck"):
            if wave["nodes"][kind]:
                click.echo(f"{kind}: {', '.join(wave['nodes'][kind])}")


def _wave(wave: dict[str, Any]) -> tuple[object, ...]:
    nodes = wave["nodes"]
    counted = (len(nodes[kind]) for kind in ("acked", "pending", "nacked", "stuck"))
    return wave["name"], wave["state"], *counted, f"{wave['soak']:g}s", wave["soak_left"]


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    ended = None if one["state"] in ("running", "paused", "halted") else one["changed_at"]
    return one["revision"], one["state"], one["base"], one["began_at"], ended, one["reason"] or None
