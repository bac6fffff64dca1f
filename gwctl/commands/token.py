"""`gwctl token`: JSON Web Tokens of providers whose secret the control plane holds."""

import json
from typing import Any

import click

from gwctl.client import Target, client, target_options
from gwctl.output import emit, output_option


@click.group()
def token() -> None:
    """Mint tokens for callers."""


@token.command()
@click.option("--provider", required=True, help="A JWT provider of the document that verifies with an HS256 secret.")
@click.option("--subject", required=True, help="Who the token is for (the claim `sub`).")
@click.option("--tier", help="The bearer's tier, in the provider's tier_claim.")
@click.option("--scope", "scopes", multiple=True, help="A scope that the token carries; may be repeated.")
@click.option("--claim", "claims", multiple=True, metavar="NAME=VALUE", help="Another claim; VALUE is JSON or text.")
@click.option("--expires-in", default="1h", show_default=True, help="How long it works.")
@target_options
@output_option
def mint(
    provider: str,
    subject: str,
    tier: str | None,
    scopes: tuple[str, ...],
    claims: tuple[str, ...],
    expires_in: str,
    target: Target,
    output: str,
) -> None:
    """Sign a token."""
    body = {
        "provider": provider,
        "subject": subject,
        "tier": tier,
        "scopes": list(scopes),
        "claims": dict(map(_claim, claims)),
        "expires_in": expires_in,
    }
    made = client(target).post("/v1/tokens", body)
    emit(output, "token.mint", made, lambda: str(made["token"]))


def _claim(written: str) -> tuple[str, Any]:
    name, equals, value = written.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--claim {written!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
