"""`gwctl access`: tokens of the control API itself, each with a role."""

from typing import Any, Final

import click

from gwctl.client import Target, client, target_options
from gwctl.output import emit, output_option, say, table

COLUMNS: Final = ("id", "name", "role", "owner", "created", "expires")
ROLES: Final = ("viewer", "registrar", "author", "operator", "admin")


@click.group()
def access() -> None:
    """List, create and revoke tokens of the control API; only an admin may."""


@access.command(name="list")
@target_options
@output_option
def list_(target: Target, output: str) -> None:
    """List the tokens that work, without the tokens themselves."""
    found = client(target).get("/v1/access")
    emit(output, "access.list", found, lambda: table(COLUMNS, [_row(one) for one in found["tokens"]]))


@access.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What it may do.")
@click.option("--owner", help="Whose objects an author applies; only for that role.")
@click.option("--expires-in", help="How long it works: 90d (the default), 12h, never.")
@target_options
@output_option
def create(name: str, role: str, owner: str | None, expires_in: str | None, target: Target, output: str) -> None:
    """Create a token called NAME. It is printed this once, and cannot be shown again."""
    if (role == "author") != (owner is not None):
        raise click.UsageError("--owner belongs to --role author, and an author needs it.")
    body = {"name": name, "role": role, "owner": owner} | ({"expires_in": expires_in} if expires_in else {})
    made = client(target).post("/v1/access", body)
    if output == "table":
        say(f"token {made['id']} of the role {role}, shown this once:")
    emit(output, "access.create", made, lambda: str(made["token"]))


@access.command()
@click.argument("token_id", metavar="ID")
@target_options
@output_option
def revoke(token_id: str, target: Target, output: str) -> None:
    """Refuse the token ID from now on."""
    if not (token_id.startswith("t_") and token_id[2:].isalnum() and token_id.isascii()):
        raise click.BadParameter(f"{token_id!r} is no id: gwctl access list has them", param_hint="ID")
    gone = client(target).delete(f"/v1/access/{token_id}")
    emit(output, "access.revoke", gone, lambda: f"revoked {gone['id']} ({gone['name']})")


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    return one["id"], one["name"], one["role"], one["owner"], one["created_at"], one["expires_at"]
