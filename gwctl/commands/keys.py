"""`gwctl keys`: API keys of consumers."""

from datetime import UTC, datetime
from typing import Any

import click

from gwctl.client import Client, Target, client, target_options
from gwctl.exits import Exit, Failure
from gwctl.output import emit, output_option, say, table

PAGE = 500
COLUMNS = ("id", "name", "tier", "state", "scopes", "expires", "used")


@click.group()
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command()
@click.option("--name", required=True, help="Whose key it is, for people.")
@click.option("--tier", help="Tier of the new consumer; may be left out with --consumer.")
@click.option("--consumer", help="Id of the consumer (c_…) that gets another key; else a new one is made.")
@click.option("--scope", "scopes", multiple=True, help="A scope that the key carries; may be repeated.")
@click.option("--expires-in", help="How long it works: 90d (the default), 12h, never.")
@target_options
@output_option
def create(
    name: str,
    tier: str | None,
    consumer: str | None,
    scopes: tuple[str, ...],
    expires_in: str | None,
    target: Target,
    output: str,
) -> None:
    """Create an API key. It is printed this once, and cannot be shown again."""
    if tier is None and consumer is None:
        raise click.UsageError("Missing option '--tier' (or '--consumer').")
    body = {"name": name, "tier": tier, "consumer": consumer, "scopes": list(scopes), "expires_in": expires_in}
    made = client(target).post("/v1/keys", {field: value for field, value in body.items() if value is not None})
    if output == "table":
        say(f"key {made['id']} of tier {made['tier']}, shown this once:")
    emit(output, "keys.create", made, lambda: str(made["key"]))


@keys.command(name="list")
@click.option("--consumer", help="Only the keys of this consumer (c_…).")
@click.option("--active", is_flag=True, help="Only keys that work.")
@target_options
@output_option
def list_(consumer: str | None, active: bool, target: Target, output: str) -> None:
    """List API keys, without the keys themselves."""
    found = every_key(client(target), consumer)
    shown = [key for key in found if not active or state(key) == "active"]
    emit(output, "keys.list", {"keys": shown}, lambda: table(COLUMNS, _rows(shown)))


@keys.command()
@click.argument("key_id", metavar="ID")
@target_options
@output_option
def revoke(key_id: str, target: Target, output: str) -> None:
    """Revoke the key ID for good. Doing it again changes nothing."""
    if not key_id.replace("-", "").replace("_", "").isalnum():
        raise Failure(Exit.INVALID, f"{key_id!r} is not the id of a key", "`gwctl keys list` shows the ids")
    revoked = client(target).delete(f"/v1/keys/{key_id}")
    emit(output, "keys.revoke", revoked, lambda: f"revoked {revoked['id']} ({revoked['name']})")


def every_key(server: Client, consumer: str | None = None) -> list[dict[str, Any]]:
    """All pages."""
    found: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = server.get("/v1/keys", limit=PAGE, after=after, consumer=consumer)
        found += page["keys"]
        after = page["next"]
        if after is None:
            return found


def state(key: dict[str, Any]) -> str:
    """`active`, `expired` or `revoked`, by this machine's clock."""
    if key["revoked_at"]:
        return "revoked"
    expires = key["expires_at"]
    return "expired" if expires and datetime.fromisoformat(expires) <= datetime.now(UTC) else "active"


def _rows(shown: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    return [
        (
            key["id"],
            key["name"],
            key["tier"],
            state(key),
            " ".join(key["scopes"]) or None,
            key["expires_at"],
            key["last_used_at"],
        )
        for key in shown
    ]
