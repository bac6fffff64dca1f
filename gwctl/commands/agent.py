"""`gwctl agent`: the process beside an Envoy that has its configuration when no control plane can be reached."""

from pathlib import Path
from typing import Any, Final

import click
import yaml

from gwctl import logs, serve
from gwctl.addresses import Address, AddressType, refuse_plaintext
from gwctl.commands.serve import _option
from gwctl.exits import Exit, Failure

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@_option("--bootstrap", "TOLLHOUSE_BOOTSTRAP", type=_FILE, required=True, help="The Envoy's: says which node it is.")
@_option("--xds", "TOLLHOUSE_XDS", type=AddressType(), multiple=True, required=True, help="Control planes, in turn.")
@_option(
    "--state-dir",
    "TOLLHOUSE_AGENT_STATE_DIR",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Where the configuration is kept, private keys included.",
)
@_option(
    "--address",
    "TOLLHOUSE_AGENT_ADDRESS",
    type=AddressType(),
    default="127.0.0.1:9003",
    show_default=True,
    help="Where the Envoy finds it.",
)
@_option("--cert", "TOLLHOUSE_NODE_CERT", type=_FILE, help="The node's certificate, for mutual TLS.")
@_option("--key", "TOLLHOUSE_NODE_KEY", type=_FILE, help="Its key.")
@_option("--ca", "TOLLHOUSE_XDS_CA", type=_FILE, help="The authorities of the control planes' certificates.")
@_option("--xds-name", "TOLLHOUSE_XDS_NAME", help="The name in those certificates, if it is not the host of --xds.")
@_option(
    "--insecure-plaintext", "TOLLHOUSE_INSECURE_PLAINTEXT", is_flag=True, help="Follow other machines without TLS."
)
@_option("--log-format", "TOLLHOUSE_LOG_FORMAT", type=click.Choice(logs.FORMATS), default="auto")
@_option("--log-level", "TOLLHOUSE_LOG_LEVEL", type=click.Choice(logs.LEVELS), default="info")
def agent(
    bootstrap: Path,
    xds: tuple[Address, ...],
    state_dir: Path,
    address: Address,
    cert: Path | None,
    key: Path | None,
    ca: Path | None,
    xds_name: str | None,
    insecure_plaintext: bool,
    log_format: str,
    log_level: str,
) -> None:
    """Run the agent of one Envoy in the foreground, until SIGTERM.

    It follows the control planes as that node, keeps what it is given on this machine's disk, and gives it to the Envoy
    on this machine when no control plane can be reached: `gwctl bootstrap --agent ADDRESS` tells the Envoy where.
    """
    serve.prepare_process()
    logs.configure(log_format, log_level)
    tls = _tls(cert, key, ca)
    for one in xds if tls is None else ():
        refuse_plaintext(one, "the control plane", insecure_plaintext, "--cert, --key and --ca")
    if not address.loopback:
        raise Failure(Exit.USAGE, "the agent hands out private keys to whoever asks, so it stays on 127.0.0.1")
    config = serve.Agent(_node(bootstrap), xds, state_dir, address, tls, xds_name)
    serve.run(serve.run_agent(config))


def _tls(cert: Path | None, key: Path | None, ca: Path | None) -> serve.ClientFiles | None:
    if cert is key is ca is None:
        return None
    if cert is None or key is None or ca is None:
        raise click.UsageError("--cert, --key and --ca go together")
    return serve.ClientFiles(cert, key, ca)


def _node(bootstrap: Path) -> dict[str, Any]:
    """The `node` of a bootstrap file: id, cluster, labels and place, by which its view is chosen."""
    try:
        node = yaml.safe_load(bootstrap.read_text())["node"]
        if isinstance(node, dict) and node.get("id"):
            return node
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        pass
    raise Failure(Exit.FAILED, f"{bootstrap} is not an Envoy bootstrap with a node.id", "gwctl bootstrap writes one")
