"""`gwctl bootstrap`: what an Envoy of one's own is started with."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from gwctl.addresses import Address, AddressType, refuse_plaintext
from gwctl.exits import Exit, Failure
from gwctl.output import say

if TYPE_CHECKING:
    from gwctl.xds_tls import ClientTls

_PATH: Final = click.Path(path_type=Path)


@click.command()
@click.option("--node", "node_id", metavar="ID", required=True, help="Its `node.id`, unique in the fleet.")
@click.option("--xds", type=AddressType(), required=True, help="Where the control plane is.")
@click.option("--cert", type=_PATH, help="The node's certificate, from `gwctl node issue-cert`. A path on the node.")
@click.option("--key", type=_PATH, help="Its key.")
@click.option("--ca", type=_PATH, help="The authority, or more than one, that the control plane's certificate is from.")
@click.option("--xds-name", help="The name in the control plane's certificate, if it is not the host of --xds.")
@click.option("--cluster", default="tollhouse", show_default=True, help="Its `node.cluster`.")
@click.option("--label", "labels", metavar="NAME=VALUE", multiple=True, help="For selectors; may be repeated.")
@click.option("--region", default="", help="Where it runs.")
@click.option("--zone", default="", help="Where in the region.")
@click.option(
    "--admin", type=AddressType(), default="127.0.0.1:9901", show_default=True, help="Envoy's own, on this machine."
)
@click.option("--agent", type=AddressType(), help="Where `gwctl agent` listens on the Envoy's machine.")
@click.option("-o", "--output", "file", type=_PATH, help="The file; else standard output. With --cert it is needed.")
@click.option("--insecure-plaintext", is_flag=True, help="Join a control plane on another machine without TLS.")
def bootstrap(
    node_id: str,
    xds: Address,
    cert: Path | None,
    key: Path | None,
    ca: Path | None,
    xds_name: str | None,
    cluster: str,
    labels: tuple[str, ...],
    region: str,
    zone: str,
    admin: Address,
    agent: Address | None,
    file: Path | None,
    insecure_plaintext: bool,
) -> None:
    """Write the bootstrap file of an Envoy that joins: `envoy -c FILE`.

    With --cert, --key and --ca it speaks mutual TLS. Two more files are then written beside FILE, which say where the
    certificates are; Envoy takes new ones from there without a restart.
    """
    from gwctl.bootstrap import Node, dump, render, template

    if not admin.loopback:
        raise Failure(Exit.USAGE, "Envoy's admin interface has no authentication, so it stays on 127.0.0.1")
    if agent is not None and not agent.loopback:
        raise Failure(Exit.USAGE, "the agent is on the Envoy's own machine, and there is no TLS to it")
    tls = _tls(cert, key, ca, xds_name or xds.host, file)
    if tls is None:
        refuse_plaintext(xds, "the control plane", insecure_plaintext, "--cert, --key and --ca")
    node = Node(id=node_id, admin=admin, xds=xds, cluster=cluster, labels=_labels(labels), region=region, zone=zone)
    text = dump(render(replace(node, tls=tls, agent=agent), template()))
    if file is None:
        click.echo(text, nl=False)
        return
    files = {file: text} | ({tls.directory / name: dump(part) for name, part in tls.secrets().items()} if tls else {})
    for path, content in files.items():
        _write(path, content)
        say(f"wrote {path}")


def _tls(cert: Path | None, key: Path | None, ca: Path | None, server: str, file: Path | None) -> "ClientTls | None":
    from gwctl.xds_tls import ClientTls

    if cert is key is ca is None:
        return None
    if cert is None or key is None or ca is None or file is None:
        raise click.UsageError("--cert, --key, --ca and --output go together")
    return ClientTls(cert.absolute(), key.absolute(), ca.absolute(), server, file.absolute().parent)


def _labels(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for label in given:
        name, equals, value = label.partition("=")
        if not name or not equals:
            raise click.UsageError(f"--label: {label!r} is not NAME=VALUE")
        found[name] = value
    return found


def _write(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    except OSError as error:
        raise Failure(Exit.FAILED, f"cannot write {path}: {error.strerror}") from None
