"""`gwctl serve`: each service as a process of its own, told everything by options or their variables."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from gwctl import logs, serve
from gwctl.addresses import Address, AddressesType, AddressType, pairs, places, refuse_plaintext
from gwctl.commands.unsafe import allow_unsafe_upstreams
from gwctl.exits import Exit, Failure

F = TypeVar("F", bound=Callable[..., Any])


def _option(name: str, variable: str, **more: Any) -> Callable[[F], F]:
    return click.option(name, envvar=variable, show_envvar=True, **more)


def _address(name: str, variable: str, default: str, what: str) -> Callable[[F], F]:
    return _option(name, variable, type=AddressType(), default=default, show_default=True, help=what)


_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_SECONDS: Final = click.FloatRange(1, 3600)
_DIRECTORY: Final = click.Path(file_okay=False, path_type=Path)

database_url = _option("--database-url", "TOLLHOUSE_DATABASE_URL", required=True, help="postgresql://…")
pepper_file = _option(
    "--pepper-file", "TOLLHOUSE_PEPPER_FILE", type=_FILE, required=True, help="What API keys are hashed with."
)
insecure_plaintext = _option(
    "--insecure-plaintext",
    "TOLLHOUSE_INSECURE_PLAINTEXT",
    is_flag=True,
    help="Listen beyond this machine without TLS. Everybody in between can read and change what is said.",
)


@click.group(name="serve")
@_option("--log-format", "TOLLHOUSE_LOG_FORMAT", type=click.Choice(logs.FORMATS), default="auto")
@_option("--log-level", "TOLLHOUSE_LOG_LEVEL", type=click.Choice(logs.LEVELS), default="info")
def group(log_format: str, log_level: str) -> None:
    """Run one service of the gateway in the foreground, until SIGTERM."""
    serve.prepare_process()
    logs.configure(log_format, log_level)


@group.command("control-plane")
@database_url
@pepper_file
@_address("--api-address", "TOLLHOUSE_API_ADDRESS", "127.0.0.1:9000", "Where the control API listens.")
@_address("--xds-address", "TOLLHOUSE_XDS_ADDRESS", "127.0.0.1:9001", "Where Envoys connect to.")
@_option("--xds-rest-address", "TOLLHOUSE_XDS_REST_ADDRESS", type=AddressType(), help="Where others poll xDS, if any.")
@_option("--xds-cert", "TOLLHOUSE_XDS_CERT", type=_FILE, help="The xDS server's certificate. Files may be replaced.")
@_option("--xds-key", "TOLLHOUSE_XDS_KEY", type=_FILE, help="Its key.")
@_option("--xds-client-ca", "TOLLHOUSE_XDS_CLIENT_CA", type=_FILE, help="Authorities of nodes' certificates.")
@_option("--xds-trust-domain", "TOLLHOUSE_XDS_TRUST_DOMAIN", default="tollhouse", show_default=True, help="In them.")
@_option("--decisions", "TOLLHOUSE_DECISIONS", default="127.0.0.1:9002", help="host:port,… that Envoys ask.")
@_option("--streams", "TOLLHOUSE_STREAMS", default="", help="host:port,… for streams, where that is elsewhere.")
@_option("--secrets-dir", "TOLLHOUSE_SECRETS_DIR", type=_DIRECTORY, required=True, help="The secret store.")
@_option("--endpoints-dir", "TOLLHOUSE_ENDPOINTS_DIR", type=_DIRECTORY, help="SERVICE.yaml: for `type: eds`.")
@_option("--endpoints-dns", "TOLLHOUSE_ENDPOINTS_DNS", default="", help="service=name:port,…: for `type: eds`.")
@_option("--endpoints-dns-interval", "TOLLHOUSE_ENDPOINTS_DNS_INTERVAL", type=_SECONDS, default=5.0, help="Seconds.")
@_option("--kubernetes-namespace", "TOLLHOUSE_KUBERNETES_NAMESPACE", multiple=True, help="Whose EndpointSlices.")
@_option("--kubernetes-api", "TOLLHOUSE_KUBERNETES_API", default=serve.KUBERNETES, show_default=True, help="Its URL.")
@_option("--listener-address", "TOLLHOUSE_LISTENER_ADDRESS", default="127.0.0.1", show_default=True, help="For Envoys.")
@_option("--listener-ports", "TOLLHOUSE_LISTENER_PORTS", default="", help="http=8080,…: not the document's.")
@_option("--token-file", "TOLLHOUSE_TOKEN_FILE", type=click.Path(path_type=Path), help="Where the first token goes.")
@_option("--state-dir", "TOLLHOUSE_STATE_DIR", type=_DIRECTORY, help="To start without a database.")
@_option("--envoy", "TOLLHOUSE_ENVOY", type=_FILE, help="The binary that checks changes; found if it is there.")
@_option("--forbidden-upstreams", "TOLLHOUSE_FORBIDDEN_UPSTREAMS", default="", help="host:port,… no upstream may be.")
@allow_unsafe_upstreams
@insecure_plaintext
def control_plane(
    database_url: str,
    pepper_file: Path,
    api_address: Address,
    xds_address: Address,
    xds_rest_address: Address | None,
    xds_cert: Path | None,
    xds_key: Path | None,
    xds_client_ca: Path | None,
    xds_trust_domain: str,
    decisions: str,
    streams: str,
    secrets_dir: Path,
    endpoints_dir: Path | None,
    endpoints_dns: str,
    endpoints_dns_interval: float,
    kubernetes_namespace: tuple[str, ...],
    kubernetes_api: str,
    listener_address: str,
    listener_ports: str,
    token_file: Path | None,
    state_dir: Path | None,
    envoy: Path | None,
    forbidden_upstreams: str,
    allow_unsafe_upstreams: bool,
    insecure_plaintext: bool,
) -> None:
    """Run the control plane: the control API, and the xDS server that Envoys connect to.

    At the very first start a token for the control API is made: it goes to --token-file if that is given, else to
    standard output, once.
    """
    refuse_plaintext(api_address, "the control API", insecure_plaintext)
    xds_tls = _tls(xds_cert, xds_key, xds_client_ca)
    if xds_tls is None:
        refuse_plaintext(xds_address, "xDS", insecure_plaintext, "--xds-cert, --xds-key and --xds-client-ca")
    if xds_rest_address is not None:
        refuse_plaintext(xds_rest_address, "xDS by polling", insecure_plaintext)
    config = serve.ControlPlane(
        database_url=database_url,
        peppers=_peppers(pepper_file),
        api=api_address,
        xds=xds_address,
        xds_rest=xds_rest_address,
        xds_tls=xds_tls,
        xds_trust_domain=xds_trust_domain,
        decisions=tuple(_parse(part) for part in decisions.split(",") if part),
        streams=tuple(_parse(part) for part in streams.split(",") if part),
        secrets_dir=secrets_dir,
        endpoints_dir=endpoints_dir,
        endpoints_dns=places(endpoints_dns, "--endpoints-dns"),
        endpoints_dns_interval=endpoints_dns_interval,
        kubernetes_namespaces=kubernetes_namespace,
        kubernetes_api=kubernetes_api,
        listener_address=listener_address,
        listener_ports=pairs(listener_ports, "--listener-ports"),
        token_file=token_file,
        state_dir=state_dir,
        envoy=envoy,
        forbidden_upstreams=tuple(_parse(part) for part in forbidden_upstreams.split(",") if part),
        unsafe_upstreams=allow_unsafe_upstreams,
        insecure_plaintext=insecure_plaintext,
    )
    serve.run(serve.run_control_plane(config))


@group.command("decisions")
@database_url
@pepper_file
@_option(
    "--address",
    "TOLLHOUSE_DECISIONS_ADDRESS",
    type=AddressesType(),
    default="127.0.0.1:9002",
    show_default=True,
    help="Where Envoys ask; several: a process each.",
)
@_option("--secrets-dir", "TOLLHOUSE_SECRETS_DIR", type=_DIRECTORY, help="The secret store, for users' passwords.")
@_option("--valkey-url", "TOLLHOUSE_VALKEY_URL", help="unix:///…, valkeys://…; else one process counts alone.")
@_option("--metrics-address", "TOLLHOUSE_DECISIONS_METRICS_ADDRESS", type=AddressesType(), help="For Prometheus.")
@_option(
    "--transport",
    "TOLLHOUSE_TRANSPORT",
    type=click.Choice(["grpcio", "fast"]),
    default="grpcio",
    show_default=True,
    help="fast: several times the decisions of a core.",
)
@_option("--streams-address", "TOLLHOUSE_STREAMS_ADDRESS", type=AddressesType(), help="With fast: for streams.")
@insecure_plaintext
def decisions(
    database_url: str,
    pepper_file: Path,
    address: tuple[Address, ...],
    secrets_dir: Path | None,
    valkey_url: str | None,
    metrics_address: tuple[Address, ...] | None,
    transport: str,
    streams_address: tuple[Address, ...] | None,
    insecure_plaintext: bool,
) -> None:
    """Run the decision service: API keys, tiers and rate limits, asked by Envoy for every request.

    With several addresses it is a process for each, looked after by this one; SIGHUP replaces them one by one.
    """
    for one in (*address, *(streams_address or ())):
        refuse_plaintext(one, "the decision service", insecure_plaintext)
    if len(metrics_address or address) != len(address):
        raise click.UsageError("--metrics-address has as many addresses as --address")
    if streams_address and (transport != "fast" or len(streams_address) != len(address)):
        raise click.UsageError("--streams-address goes with --transport fast, and has as many addresses as --address")
    if len(address) > 1:
        if valkey_url is None:
            raise click.UsageError("several processes count together only in a Valkey: --valkey-url")
        serve.run_crew(
            address, metrics_address or (), streams_address or (), _as_variables(click.get_current_context())
        )
        return
    config = serve.decisions_config(
        address=str(address[0]),
        database_url=database_url,
        peppers=_peppers(pepper_file),
        secrets_dir=secrets_dir,
        valkey_url=valkey_url,
        metrics_address=str(metrics_address[0]) if metrics_address else None,
        transport=transport,
        streams_address=str(streams_address[0]) if streams_address else None,
        insecure_plaintext=insecure_plaintext,
    )
    serve.run(serve.run_decisions(config))


@group.command("demo")
@click.option("--ports", required=True, help="name=port,…: which upstream each port stands in for.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@insecure_plaintext
def demo(ports: str, host: str, insecure_plaintext: bool) -> None:
    """Run stand-ins for upstreams: they answer with what they saw (?status=503 and ?delay=2s make them misbehave)."""
    from gwctl.demo import app, listen

    names = pairs(ports, "--ports")
    refuse_plaintext(Address(host, 0), "the demo", insecure_plaintext)
    sockets = [listen(host, port) for port in dict.fromkeys(names.values())]
    serve.run(serve.run_http(app({port: name for name, port in names.items()}), sockets))


def _as_variables(context: click.Context) -> dict[str, str]:
    """The environment in which a process finds what this one was told, by options or by variables."""
    told = dict(os.environ)
    for one in filter(None, (context.parent, context)):
        options = {option.name: option.envvar for option in one.command.params if isinstance(option.envvar, str)}
        values = {name: one.params.get(name) for name in options if name is not None}
        told |= {
            options[name]: str(int(v) if isinstance(v, bool) else v) for name, v in values.items() if v is not None
        }
    return told


def _tls(*files: Path | None) -> serve.TlsFiles | None:
    given = [file for file in files if file is not None]
    if not given:
        return None
    if len(given) < len(files):
        raise click.UsageError("--xds-cert, --xds-key and --xds-client-ca go together")
    return serve.TlsFiles(*given)


def _peppers(file: Path) -> dict[int, bytes]:
    try:
        return serve.peppers(file)
    except ValueError as error:
        raise Failure(Exit.FAILED, f"{file}: {error}", "head -c 32 /dev/urandom | base64 > FILE") from None


def _parse(address: str) -> tuple[str, int]:
    host, port = AddressType().convert(address.strip(), None, None)
    return host, port
