"""`gwctl keys`: API keys of consumers."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from gwctl.client import Client, Target, client, target_options
from gwctl.exits import Exit, Failure
from gwctl.output import emit, output_option, say, table

PAGE = 500
COLUMNS = ("id", "name", "tier", "state", "scopes", "from", "labels", "expires", "used", "pepper")


@click.group()
def keys() -> None:
    """Create, list, change, rotate and revoke API keys."""


@keys.command()
@click.option("--name", required=True, help="Whose key it is, for people.")
@click.option("--tier", help="Tier of the new consumer; may be left out with --consumer.")
@click.option("--consumer", help="Id of the consumer (c_…) that gets another key; else a new one is made.")
@click.option("--scope", "scopes", multiple=True, help="A scope that the key carries; may be repeated.")
@click.option("--expires-in", help="How long it works: 90d (the default), 12h, never.")
@click.option(
    "--allow-ip", "allowed_ips", multiple=True, help="An address or CIDR range it may be used from; repeated."
)
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label; may be repeated.")
@target_options
@output_option
def create(
    name: str,
    tier: str | None,
    consumer: str | None,
    scopes: tuple[str, ...],
    expires_in: str | None,
    allowed_ips: tuple[str, ...],
    labels: tuple[str, ...],
    target: Target,
    output: str,
) -> None:
    """Create an API key. It is printed this once, and cannot be shown again."""
    if tier is None and consumer is None:
        raise click.UsageError("Missing option '--tier' (or '--consumer').")
    body: dict[str, Any] = {"name": name, "tier": tier, "consumer": consumer, "expires_in": expires_in}
    body |= {"scopes": list(scopes), "allowed_ips": list(allowed_ips), "labels": _labels(labels)}
    made = client(target).post("/v1/keys", _said(body))
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
    found, pepper = every_key(client(target), consumer)
    shown = [key for key in found if not active or state(key) == "active"]
    emit(output, "keys.list", {"keys": shown, "pepper_version": pepper}, lambda: table(COLUMNS, _rows(shown, pepper)))


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("--name", help="Whose key it is, for people.")
@click.option("--scope", "scopes", multiple=True, help="All scopes that it carries from now on; may be repeated.")
@click.option("--allow-ip", "allowed_ips", multiple=True, help="All ranges it may be used from; `any` lifts the limit.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="All its labels; may be repeated.")
@target_options
@output_option
def change(
    key_id: str,
    name: str | None,
    scopes: tuple[str, ...],
    allowed_ips: tuple[str, ...],
    labels: tuple[str, ...],
    target: Target,
    output: str,
) -> None:
    """Change what the key ID may do, or what it is called. It works on, with what is new, within a second."""
    body: dict[str, Any] = {"name": name, "scopes": list(scopes) or None, "labels": _labels(labels) or None}
    body["allowed_ips"] = [] if allowed_ips == ("any",) else list(allowed_ips) or None
    if not _said(body):
        raise click.UsageError("Nothing to change is named.")
    changed = client(target).patch(f"/v1/keys/{_id(key_id)}", _said(body))
    emit(output, "keys.change", changed, lambda: f"changed {changed['id']} ({changed['name']})")


@keys.command()
@click.argument("key_id", metavar="ID")
@target_options
@output_option
def disable(key_id: str, target: Target, output: str) -> None:
    """Disable the key ID for a while: it is refused until it is enabled again."""
    _set_disabled(key_id, True, target, output)


@keys.command()
@click.argument("key_id", metavar="ID")
@target_options
@output_option
def enable(key_id: str, target: Target, output: str) -> None:
    """Enable the key ID again."""
    _set_disabled(key_id, False, target, output)


def _set_disabled(key_id: str, disabled: bool, target: Target, output: str) -> None:
    verb = "disable" if disabled else "enable"
    changed = client(target).patch(f"/v1/keys/{_id(key_id)}", {"disabled": disabled})
    emit(output, f"keys.{verb}", changed, lambda: f"{verb}d {changed['id']} ({changed['name']})")


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option(
    "--overlap", default="24h", show_default=True, help="How long the old secret still works; 0s: not at all."
)
@click.option("--expires-in", help="A new life for the key: 90d, never. Without it the key's end stays.")
@target_options
@output_option
def rotate(key_id: str, overlap: str, expires_in: str | None, target: Target, output: str) -> None:
    """Give the key ID another secret. The key is printed this once; the old one works until the overlap ends."""
    body = {"overlap": overlap, "expires_in": expires_in}
    made = client(target).post(f"/v1/keys/{_id(key_id)}/rotate", _said(body))
    if output == "table":
        say(f"key {made['id']}, shown this once; the old one works until {made['old_secret_until']}:")
    emit(output, "keys.rotate", made, lambda: str(made["key"]))


@keys.command()
@click.argument("key_id", metavar="ID")
@target_options
@output_option
def revoke(key_id: str, target: Target, output: str) -> None:
    """Revoke the key ID for good. Doing it again changes nothing."""
    revoked = client(target).delete(f"/v1/keys/{_id(key_id)}")
    emit(output, "keys.revoke", revoked, lambda: f"revoked {revoked['id']} ({revoked['name']})")


def _id(key_id: str) -> str:
    if not key_id.replace("-", "").replace("_", "").isalnum():
        raise Failure(Exit.INVALID, f"{key_id!r} is not the id of a key", "`gwctl keys list` shows the ids")
    return key_id


def _labels(written: Sequence[str]) -> dict[str, str]:
    pairs = [label.partition("=") for label in written]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise click.UsageError("a label is written NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _said(body: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in body.items() if value is not None}


def every_key(server: Client, consumer: str | None = None) -> tuple[list[dict[str, Any]], int]:
    """All pages, and the version of the pepper that new keys are hashed with."""
    found: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = server.get("/v1/keys", limit=PAGE, after=after, consumer=consumer)
        found += page["keys"]
        after = page["next"]
        if after is None:
            return found, page["pepper_version"]


def state(key: dict[str, Any]) -> str:
    """`active`, `expired`, `disabled` or `revoked`, by this machine's clock."""
    if key["revoked_at"]:
        return "revoked"
    if key["disabled_at"]:
        return "disabled"
    expires = key["expires_at"]
    return "expired" if expires and datetime.fromisoformat(expires) <= datetime.now(UTC) else "active"


def _rows(shown: list[dict[str, Any]], pepper: int) -> list[tuple[object, ...]]:
    return [
        (
            key["id"],
            key["name"],
            key["tier"],
            state(key),
            " ".join(key["scopes"]) or None,
            " ".join(key["allowed_ips"]) or None,
            " ".join(f"{name}={value}" for name, value in key["labels"].items()) or None,
            key["expires_at"],
            key["last_used_at"],
            f"{key['pepper_version']} (old)" if key["pepper_version"] < pepper else None,
        )
        for key in shown
    ]
