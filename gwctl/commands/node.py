"""`gwctl node`: certificates for those who speak xDS."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from gwctl.exits import Exit, Failure
from gwctl.output import emit, output_option

F = TypeVar("F", bound=Callable[..., Any])

_DIRECTORY: Final = click.Path(file_okay=False, path_type=Path)
_DAYS: Final = click.IntRange(1, 3650)

ca_dir = click.option(
    "--ca-dir", type=_DIRECTORY, default=Path("ca"), show_default=True, help="Where ca.crt and ca.key are."
)
trust_domain = click.option(
    "--trust-domain", default="tollhouse", show_default=True, help="The control plane's --xds-trust-domain."
)


def _issuing(days: int) -> Callable[[F], F]:
    """The options of all that issues."""

    def options(command: F) -> F:
        lasting = click.option("--days", type=_DAYS, default=days, show_default=True, help="How long it is good.")
        out = click.option("--out", type=_DIRECTORY, default=Path(), help="Where it goes; else the working directory.")
        return ca_dir(lasting(out(output_option(command))))

    return options


@click.group()
def node() -> None:
    """Make certificates for xDS: of nodes, operators and the control plane."""


@node.command("init-ca")
@ca_dir
@click.option("--days", type=_DAYS, default=3650, show_default=True, help="How long the authority is good.")
@output_option
def init_ca(ca_dir: Path, days: int, output: str) -> None:
    """Make an authority: ca.crt for everybody, ca.key for nobody else. Never overwrites one."""
    from gwctl.authority import create

    try:
        made = create(ca_dir, days)
    except OSError as error:
        raise Failure(Exit.FAILED, str(error), "another --ca-dir is another authority") from None
    result = {"certificate": str(ca_dir / "ca.crt"), "key": str(ca_dir / "ca.key"), "expires": made.expires.isoformat()}
    emit(output, "node.init-ca", result, lambda: f"{result['certificate']} until {result['expires']}")


@node.command("issue-cert")
@click.argument("node_id", metavar="ID")
@trust_domain
@_issuing(days=30)
def issue_cert(node_id: str, trust_domain: str, ca_dir: Path, days: int, out: Path, output: str) -> None:
    """Issue ID.crt and ID.key for the Envoy whose `node.id` is ID. Again, before it runs out, is how it is renewed."""
    _issue(node_id, [_client("node", node_id, trust_domain)], False, ca_dir, days, out, output)


@node.command("issue-operator-cert")
@click.argument("name")
@trust_domain
@_issuing(days=30)
def issue_operator_cert(name: str, trust_domain: str, ca_dir: Path, days: int, out: Path, output: str) -> None:
    """Issue NAME.crt and NAME.key for somebody who may read the status of all nodes, and no configuration."""
    _issue(name, [_client("operator", name, trust_domain)], False, ca_dir, days, out, output)


@node.command("issue-server-cert")
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True)
@_issuing(days=90)
def issue_server_cert(hosts: tuple[str, ...], ca_dir: Path, days: int, out: Path, output: str) -> None:
    """Issue server.crt and server.key for a control plane that nodes reach as HOST (names or addresses)."""
    _issue("server", list(hosts), True, ca_dir, days, out, output)


def _client(kind: str, name: str, domain: str) -> str:
    from gwctl.authority import client_name

    try:
        return client_name(domain, kind, name)
    except ValueError as error:
        raise Failure(Exit.INVALID, str(error)) from None


def _issue(file: str, names: list[str], server: bool, ca_dir: Path, days: int, out: Path, output: str) -> None:
    from gwctl.authority import CLIENT, SERVER, Authority

    try:
        made = Authority.open(ca_dir).issue(names, SERVER if server else CLIENT, days)
        certificate, key = made.write(out, file)
    except FileNotFoundError as error:
        raise Failure(Exit.FAILED, f"{error.filename} is not there", "make an authority: gwctl node init-ca") from None
    except (OSError, ValueError) as error:
        raise Failure(Exit.FAILED, str(error)) from None
    expires = made.expires.isoformat()
    result = {"names": names, "certificate": str(certificate), "key": str(key), "expires": expires}
    emit(output, "node.issue-cert", result, lambda: f"{certificate} for {', '.join(names)} until {expires}")
