"""`gwctl history`: what was applied, by whom, why, and what became of it."""

from typing import Any

import click

from gwctl.client import Target, client, target_options
from gwctl.output import emit, output_option, table

COLUMNS = ("revision", "when", "author", "message", "commit", "rollout")
SHOWN_OF_COMMIT = 12


@click.command()
@click.option("-n", "--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="How many at most.")
@click.option("--before", type=click.IntRange(1), help="Only revisions with a smaller number.")
@target_options
@output_option
def history(limit: int, before: int | None, target: Target, output: str) -> None:
    """List revisions, the newest first."""
    server = client(target)
    found = server.get("/v1/revisions", limit=limit, before=before)
    ways = server.get("/v1/rollouts", limit=limit, before=before)["rollouts"]
    states = {way["revision"]: way["state"] for way in ways}
    rows = [revision | {"rollout": states.get(revision["revision"])} for revision in found["revisions"]]
    emit(output, "history", found | {"revisions": rows}, lambda: table(COLUMNS, [_row(one) for one in rows]))


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    return (
        one["revision"],
        one["created_at"],
        one["author"],
        one["message"] or None,
        short(one["git_commit"]),
        one["rollout"],
    )


def short(commit: str | None) -> str | None:
    """As long as it takes to find it; what was not committed stays to be seen."""
    if commit is None:
        return None
    number, dash, dirty = commit.partition("-")
    return number[:SHOWN_OF_COMMIT] + dash + dirty
