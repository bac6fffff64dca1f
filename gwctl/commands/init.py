"""`gwctl init`: a first routes.yaml."""

from pathlib import Path
from typing import Final

import click

from gwctl.commands.importing import converted, put, tell, text_of

STARTER: Final = """\
# yaml-language-server: $schema=./.gwctl/schema.v1.json
#
# A gateway in one file. Check it with `gwctl validate routes.yaml`, run it here with `gwctl up routes.yaml`.
# `gwctl docs` explains every word; `gwctl schema --out .gwctl/schema.v1.json` lets your editor do so.
version: 1
owner: default                 # `gwctl apply` changes and prunes only what this owner wrote

# Where requests come in.
listeners:
  http:
    port: 8080

# Where requests go.
upstreams:
  orders:
    type: static
    endpoints:
      - {address: 127.0.0.1, port: 8081}
    health_check:
      http: {path: /health}

# Who is calling. The keys are in the database: `gwctl keys create --tier free --name me`.
api_keys:
  keys:
    from: {headers: [x-api-key]}

# What callers may, lowest first.
tiers:
  free: {rate_limits: [{limit: 60/minute, per: client}]}
  pro: {rate_limits: [{limit: 1200/minute, per: client}]}

# What holds for every route that does not say otherwise.
defaults:
  timeouts: {request: 15s}
  retry: {attempts: 2}

# The routes, in groups that ship together.
modules:
  orders:
    tier: free                 # the least tier that may call
    listener: http
    path_prefix: /orders       # a fence: every path below begins with it
    authentication: {any_of: [keys]}
    routes:
      list:
        match: {path: {exact: /orders}, methods: [GET]}
        backends: [{upstream: orders}]
      one:
        match: {path: {template: "/orders/{id}"}}
        backends: [{upstream: orders}]
  open:
    tier: free
    listener: http
    authentication: none       # everybody
    routes:
      ping:
        match: {path: {exact: /ping}, methods: [GET]}
        respond: {status: 200, body: pong}
"""


@click.command()
@click.argument("out", metavar="[FILE]", default="routes.yaml", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Make it from this OpenAPI document.",
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
def init(out: Path, source: Path | None, force: bool) -> None:
    """Write a first routes.yaml, with comments (`-` prints it)."""
    if source is None:
        put(STARTER, out, force=force)
        return
    made = converted("openapi", source)
    tell(made.losses, "openapi")
    put(text_of(made.document, source, "openapi"), out, force=force)
