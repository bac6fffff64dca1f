"""What `gwctl up` says on a terminal once everything runs: where things are, and three calls that work as printed."""

from collections.abc import Iterator
from shlex import quote
from typing import Any, Final

from rich.table import Table

from gwctl.client import Client
from gwctl.output import table
from gwctl.up.plan import Sample

DEMO: Final = "demo"
KINDS: Final = ("gateway", "control_api", "xds", "ext_authz", "ratelimit", "envoy_admin", "database_url", "valkey_url")


def urls(state: dict[str, Any]) -> Table:
    rows = [(name.replace("_", " "), state[name]) for name in KINDS]
    rows += [(f"listener {name}", url) for name, url in state["listeners"].items() if url != state["gateway"]]
    return table(("part", "where"), [*rows, ("state dir", state["state_dir"])])


def calls(state: dict[str, Any], sample: Sample, api: Client) -> Iterator[tuple[str, str]]:
    """What each call shows, and the command. The credentials are for trying out and shown here only."""
    url = quote(state["gateway"] + sample.path)
    curl = "curl -i" + (f" -H {quote('host: ' + sample.host)}" if sample.host else "")
    if sample.key_header:
        yield "with an API key", f"{curl} -H {quote(f'{sample.key_header}: {demo_key(api, sample.tier)}')} {url}"
    if sample.provider:
        body = {"provider": sample.provider, "subject": DEMO, "tier": sample.tier}
        token = api.post("/v1/tokens", body)["token"]
        yield "with a token", f"{curl} -H {quote(f'authorization: Bearer {token}')} {url}"
    yield "without a credential: 401", f"{curl} {url}"


def demo_key(api: Client, tier: str) -> str:
    """A key for this run; the one of the run before is revoked."""
    for key in api.get("/v1/keys", limit=200)["keys"]:
        if key["name"] == DEMO and not key["revoked_at"]:
            api.delete(f"/v1/keys/{key['id']}")
    return str(api.post("/v1/keys", {"name": DEMO, "tier": tier})["key"])
