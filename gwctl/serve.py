"""Where the parts of each service are made and joined: the composition roots, run by `gwctl serve`."""

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

import click
import structlog

from gwctl.addresses import Address
from gwctl.exits import Exit, Failure
from gwctl.notify import READY, SERVING, STOPPING, notify

if TYPE_CHECKING:
    import uvicorn
    from sqlalchemy.ext.asyncio import AsyncEngine
    from starlette.types import ASGIApp

    from policy.server import DecisionsConfig
    from xds_server.endpoints.services import Source

T = TypeVar("T")

log = structlog.get_logger(__name__)

DRAIN_SECONDS: Final = 4
RETRY_SECONDS: Final = 0.1
RETRY_LONGEST: Final = 2.0
POSTGRES_PORT: Final = 5432
KUBERNETES: Final = "https://kubernetes.default.svc"

CHANNEL: Final = (  # of an agent: it notices within 15 s that a control plane hangs
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)


class Follower(Protocol):
    async def run(self) -> None: ...


class TlsFiles(NamedTuple):
    """PEM files: a server's certificate, its key, the authorities that its clients' certificates must be from."""

    certificate: Path
    key: Path
    client_ca: Path


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """All that a control plane is told."""

    database_url: str = field(repr=False)
    peppers: Mapping[int, bytes] = field(repr=False)
    api: Address
    xds: Address
    decisions: tuple[tuple[str, int], ...]
    secrets_dir: Path
    endpoints_dir: Path | None
    listener_address: str
    listener_ports: dict[str, int]
    token_file: Path | None
    envoy: Path | None
    insecure_plaintext: bool
    state_dir: Path | None = None
    forbidden_upstreams: tuple[tuple[str, int], ...] = ()
    endpoints_dns: Mapping[str, Address] = field(default_factory=dict)
    endpoints_dns_interval: float = 5.0
    kubernetes_namespaces: tuple[str, ...] = ()
    kubernetes_api: str = KUBERNETES
    unsafe_upstreams: bool = False
    xds_rest: Address | None = None
    xds_tls: TlsFiles | None = None
    xds_trust_domain: str = "tollhouse"
    streams: tuple[tuple[str, int], ...] = ()

    @property
    def own_addresses(self) -> tuple[tuple[str, int], ...]:
        """Where the plane itself listens, its database included: (host, port) that no upstream may be."""
        database = urlsplit(self.database_url)
        stores = ((database.hostname, database.port or POSTGRES_PORT),) if database.hostname else ()
        own = (tuple(address) for address in (self.api, self.xds, self.xds_rest) if address is not None)
        return (*own, *self.decisions, *self.streams, *stores, *self.forbidden_upstreams)


class ClientFiles(NamedTuple):
    """PEM files: a node's certificate, its key, the authorities that the control plane's certificate must be from."""

    certificate: Path
    key: Path
    authorities: Path


@dataclass(frozen=True, slots=True)
class Agent:
    """All that a node's agent is told. `node`: as in its Envoy's bootstrap."""

    node: dict[str, Any]
    xds: tuple[Address, ...]
    state_dir: Path
    address: Address
    tls: ClientFiles | None = None
    xds_name: str | None = None

    def channel(self, address: str) -> Any:
        """Files are read for each connection, so new certificates need no restart. Raises OSError."""
        import grpc

        if self.tls is None:
            return grpc.aio.insecure_channel(address, options=CHANNEL)
        chain, key, authorities = (file.read_bytes() for file in self.tls)
        credentials = grpc.ssl_channel_credentials(authorities, key, chain)
        named = (("grpc.ssl_target_name_override", self.xds_name),) if self.xds_name else ()
        return grpc.aio.secure_channel(address, credentials, options=CHANNEL + named)


async def run_control_plane(config: ControlPlane) -> None:
    """Until SIGTERM. What listens is bound first, so that a wrong address fails at once.

    Then PostgreSQL is waited for; only for a moment if an earlier process kept what it published.
    """
    from prometheus_client import CollectorRegistry

    from admin import app, tokens
    from admin.service import Service
    from db import engine as engines
    from db.watch import HeadWatch
    from xds_server.ads import rest
    from xds_server.ads import server as ads
    from xds_server.ads.hub import Hub
    from xds_server.ads.tls import ServerTls
    from xds_server.compiler import Settings
    from xds_server.endpoints.services import ServiceRegistry
    from xds_server.kept import KeptFile
    from xds_server.rollout import keeping
    from xds_server.rollout.candidate import Builder
    from xds_server.rollout.census import Census
    from xds_server.rollout.conductor import Conductor
    from xds_server.rollout.freshness import Freshness
    from xds_server.rollout.publisher import Publisher
    from xds_server.secrets import SecretStore

    stop = _stop_event()
    listening = _listen(config.api)
    polled = [_listen(config.xds_rest)] if config.xds_rest else []
    engine = engines.connect(config.database_url)
    file = KeptFile(config.state_dir / keeping.FILE) if config.state_dir else None
    kept = keeping.kept(file) if file else None
    prepared = asyncio.create_task(_prepare_database(config, engine, stop))
    await _first(stop.wait(), prepared, *([asyncio.sleep(keeping.PATIENCE)] if kept else []))
    if prepared.done():
        prepared.result()
    if stop.is_set():
        return
    settings = Settings(
        listener_address=config.listener_address,
        listener_ports=config.listener_ports,
        decisions=config.decisions,
        streams=config.streams,
        forbidden=config.own_addresses,
        unsafe_upstreams=config.unsafe_upstreams,
    )
    services = ServiceRegistry(_sources(config, engine))
    builder = Builder(settings, SecretStore(config.secrets_dir), _gate(config.envoy), services)
    hub = Hub()
    publisher = Publisher(engine, HeadWatch(config.database_url), builder, hub)
    hub.current = Freshness(engine, publisher)
    census = Census(engine, hub, f"{socket.gethostname()}-{secrets.token_hex(4)}")
    conductor = Conductor(engine, publisher, census)
    service = Service(engine, publisher, hub, builder, config.peppers)
    registry = CollectorRegistry()
    api = _http_server(app.create(service, tokens.Tokens(engine), registry))
    tls = ServerTls(*config.xds_tls, config.xds_trust_domain) if config.xds_tls else None
    plaintext = config.insecure_plaintext
    xds = await ads.start(hub, str(config.xds), registry=registry, tls=tls, insecure_plaintext=plaintext)
    polls = _http_server(rest.app(hub))
    polling = asyncio.create_task(polls.serve(sockets=polled) if polled else stop.wait())
    following = asyncio.create_task(_follow(prepared, publisher, census, conductor))
    serving = asyncio.create_task(api.serve(sockets=[listening]))
    fetching = asyncio.create_task(builder.key_sets.run())
    copying = asyncio.create_task(keeping.keep(publisher, file, kept, at_once=not prepared.done()))
    log.info("control_plane_started", api=str(config.api), xds=str(config.xds))
    notify(READY)
    await _first(stop.wait(), following, serving, polling, fetching, copying)
    notify(STOPPING)
    api.should_exit = polls.should_exit = True
    await asyncio.gather(serving, polling, xds.stop(DRAIN_SECONDS), return_exceptions=True)
    for task in (following, fetching, copying):
        task.cancel()
    ended = await asyncio.gather(following, fetching, copying, return_exceptions=True)
    await engines.close(engine)
    log.info("control_plane_stopped")
    _raise_unless_stopped(stop, ended)


async def _prepare_database(config: ControlPlane, engine: "AsyncEngine", stop: asyncio.Event) -> None:
    """Waits for PostgreSQL, brings it to our schema and makes the first token; less if asked to stop."""
    from admin import tokens
    from db import migrate

    async def prepare() -> str | None:
        await migrate.upgrade(config.database_url)
        return await tokens.ensure(engine)

    first_token = await _once_reachable(prepare, stop)
    if first_token is not None:
        _hand_over(first_token, config.token_file)


async def _follow(prepared: Awaitable[None], *parts: Follower) -> None:
    """What needs the database, for ever."""
    await prepared
    async with asyncio.TaskGroup() as tasks:
        for part in parts:
            tasks.create_task(part.run())


def _sources(config: ControlPlane, engine: "AsyncEngine") -> "list[Source]":
    """Who knows endpoints of services: of one address and port, the first of these is believed."""
    from db import endpoints
    from xds_server.endpoints.directory import Directory
    from xds_server.endpoints.dns import Dns
    from xds_server.endpoints.kubernetes import Cluster, Kubernetes
    from xds_server.endpoints.registered import Registered

    found: list[Source] = [Directory(config.endpoints_dir)] if config.endpoints_dir else []
    found.append(Registered(engine, endpoints.watch(config.database_url)))
    if config.kubernetes_namespaces:
        found.append(Kubernetes(Cluster(config.kubernetes_namespaces, config.kubernetes_api)))
    if config.endpoints_dns:
        found.append(Dns(config.endpoints_dns, config.endpoints_dns_interval))
    return found


def peppers(file: Path) -> dict[int, bytes]:
    """By version. Raises ValueError."""
    from policy.authz.peppers import parse

    return parse(file.read_bytes())


def decisions_config(**parts: Any) -> "DecisionsConfig":
    """Imports the decision service, which a command's module may not."""
    from policy.server import DecisionsConfig

    return DecisionsConfig(**parts)


async def run_decisions(config: "DecisionsConfig") -> None:
    from policy.server import start

    stop = _stop_event()
    service = await start(config)
    notify(READY)
    try:
        await _first(stop.wait(), service.ready())
        notify(SERVING)
        await stop.wait()
    finally:
        notify(STOPPING)
        await service.stop(DRAIN_SECONDS)


def run_crew(
    addresses: Sequence[Address], metrics: Sequence[Address], streams: Sequence[Address], variables: Mapping[str, str]
) -> None:
    """Several decision processes; see `gwctl.crew`."""
    from gwctl import crew
    from gwctl.up.process import ProcessError

    try:
        crew.run(addresses, metrics, streams, variables)
    except ProcessError as error:
        raise Failure(Exit.FAILED, str(error)) from None


async def run_agent(config: Agent) -> None:
    """Until SIGTERM. What is on the disk is served at once."""
    from envoy.config.core.v3.base_pb2 import Node
    from google.protobuf.json_format import ParseDict

    from xds_server.agent import agent

    stop = _stop_event()
    addresses = list(map(str, config.xds))
    made = agent.Agent(ParseDict(config.node, Node()), addresses, config.channel, config.state_dir / agent.FILE)
    await made.start(str(config.address))
    following = asyncio.create_task(made.run())
    log.info("agent_started", node=config.node["id"], address=str(config.address), xds=addresses)
    notify(READY)
    await _first(stop.wait(), following)
    notify(STOPPING)
    await made.stop()
    following.cancel()
    ended = await asyncio.gather(following, return_exceptions=True)
    log.info("agent_stopped")
    _raise_unless_stopped(stop, ended)


async def run_http(app: "ASGIApp", sockets: list[socket.socket]) -> None:
    stop = _stop_event()
    server = _http_server(app)
    serving = asyncio.create_task(server.serve(sockets=sockets))
    notify(READY)
    await _first(stop.wait(), serving)
    server.should_exit = True
    await serving


def _http_server(app: "ASGIApp") -> "uvicorn.Server":
    """uvicorn without its signal handling (it would end the process by the signal instead of with 0)."""
    import uvicorn

    class Server(uvicorn.Server):
        def capture_signals(self) -> Any:
            return nullcontext()

    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=DRAIN_SECONDS,
            timeout_keep_alive=30,
        )
    )


async def _once_reachable(work: Callable[[], Awaitable[T]], stop: asyncio.Event) -> T | None:
    """Tries until the database answers, or until asked to stop (None)."""
    from db.engine import Unavailable

    pause = RETRY_SECONDS
    while not stop.is_set():
        try:
            return await work()
        except Unavailable as error:
            log.warning("waiting_for_database", reason=str(error))
            await _first(stop.wait(), asyncio.sleep(pause))
            pause = min(RETRY_LONGEST, pause * 1.5)
    return None


async def _first(*work: Awaitable[Any]) -> None:
    """Returns when one has ended; what this function made itself is cancelled, what was a task before goes on."""
    tasks = [asyncio.ensure_future(one) for one in work]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task, given in zip(tasks, work, strict=True):
        if task is not given:
            task.cancel()


def _raise_unless_stopped(stop: asyncio.Event, ended: Sequence[object]) -> None:
    """A part that ended by itself takes the process with it: whoever supervises us starts it again, whole."""
    failed = next((one for one in ended if isinstance(one, Exception)), None)
    if failed is not None:
        raise failed
    if not stop.is_set():
        raise Failure(Exit.FAILED, "a part of the control plane ended")


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def prepare_process() -> None:
    """Before grpc is imported: its fork handlers crash a child between fork and exec once a server runs.

    The gate starts an Envoy for each revision, and a child of uvloop's is forked.
    """
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def run(work: Coroutine[Any, Any, None]) -> None:
    import uvloop

    try:
        uvloop.run(work)
    except (OSError, ValueError) as error:
        raise Failure(Exit.FAILED, str(error)) from error


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {error.strerror}") from None
    listening.listen(256)
    listening.setblocking(False)
    return listening


def _gate(envoy: Path | None) -> Path | None:
    from xds_server.validate import find_envoy

    found = envoy or find_envoy()
    if found is None:
        log.warning("no_envoy", effect="changes go out without a real Envoy's opinion", help="set TOLLHOUSE_ENVOY")
    return found


def _hand_over(token: str, file: Path | None) -> None:
    """To the file, else to standard output: one of the two, since an output may end up in a log."""
    if file is None:
        click.echo(f"token of the control API, shown this once: {token}")
        sys.stdout.flush()
        return
    from admin.tokens import write

    write(file, token)
    log.info("token_written", file=str(file))
