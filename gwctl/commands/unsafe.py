"""The flag that names the risk of upstreams where none should be."""

from typing import Final

import click

allow_unsafe_upstreams: Final = click.option(
    "--allow-unsafe-upstreams",
    envvar="TOLLHOUSE_ALLOW_UNSAFE_UPSTREAMS",
    show_envvar=True,
    is_flag=True,
    help="Take upstreams at metadata services, link-local addresses and the control plane's own ports.",
)
