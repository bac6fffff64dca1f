"""The decision service as a process: its gRPC services and health, and all that they stand on."""

import asyncio
import contextlib
import ipaddress
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
from grpc_health.v1 import health, health_pb2
from prometheus_client import CollectorRegistry, start_http_server
from sqlalchemy.ext.asyncio import AsyncEngine

from db import engine as engines
from db.watch import HeadWatch
from policy.accesslog.service import AccessLog
from policy.accesslog.table import TrafficTable
from policy.authz.directory import KeyTable
from policy.authz.lastused import LastUsed
from policy.authz.rehashing import Rehashing
from policy.authz.service import NAME as AUTHORIZATION
from policy.authz.service import Authorization
from policy.authz.store import KeyStore
from policy.authz.users import Users
from policy.cache import store as cache_stores
from policy.cache.library import Library
from policy.cache.processor import NAME as RESPONSE_CACHE
from policy.cache.processor import ResponseCache
from policy.cache.valkey import ValkeyStore as ValkeyCache
from policy.faults import where
from policy.follow import Follower
from policy.metrics import Metrics
from policy.quota.lease import Lease
from policy.quota.service import NAME as QUOTAS
from policy.quota.service import RateLimitQuota
from policy.ratelimit.memory import MemoryStore
from policy.ratelimit.service import NAME as RATE_LIMIT
from policy.ratelimit.service import RateLimit
from policy.ratelimit.store import Store
from policy.ratelimit.valkey import ValkeyStore
from policy.transport.servers import Addresses, Servers, Transport, host_and_port
from policy.transport.tls import TlsFiles
from policy.unavailable import Unavailable
from policy.valkey.address import parse
from policy.view import Views

log = structlog.get_logger(__name__)

SERVICES: Final = ("", AUTHORIZATION, RATE_LIMIT, RESPONSE_CACHE)
FLUSH_EVERY: Final = 10.0
DRAIN: Final = 5.0
NOTICED: Final = 1.5
"""Seconds after which every Envoy knows that this process goes: it asks twice a second where there are several."""


@dataclass(frozen=True, slots=True)
class DecisionsConfig:
    """`address`, `streams_address`, `metrics_address`: "host:port", port 0 for any free one.

    `transport` and `streams_address`: see `policy.transport.servers`. `tls`: for both addresses.

    `peppers`: by version (at least 16 bytes each). Without `valkey_url` limits are counted and
    responses kept in this process alone.
    `secrets_dir`: the secret store, for users and their passwords; without it nobody comes in by one.
    `insecure_plaintext` allows an address beyond loopback without TLS: whoever reaches it may ask for decisions, and
    whoever sits between sees API keys.
    """

    address: str
    database_url: str = field(repr=False)
    peppers: Mapping[int, bytes] = field(repr=False)
    valkey_url: str | None = field(default=None, repr=False)
    metrics_address: str | None = None
    insecure_plaintext: bool = False
    secrets_dir: Path | None = None
    transport: Transport = "grpcio"
    streams_address: str | None = None
    tls: TlsFiles | None = None


class Decisions:
    """A running decision service. `port`, `streams_port` and `metrics_port` are those that it got."""

    def __init__(self, config: DecisionsConfig, registry: CollectorRegistry | None = None) -> None:
        self.views = Views()
        self.metrics = Metrics(registry or CollectorRegistry())
        self.port = self.streams_port = 0
        self.metrics_port: int | None = None
        self._config = config
        self._engine: AsyncEngine = engines.connect(config.database_url)
        table = KeyTable(self._engine)
        self._keys = KeyStore(table)
        self._last_used = LastUsed(table.touch)
        self._rehashing = Rehashing(config.peppers, table.rehash, self._keys.changed)
        self._users = Users(config.secrets_dir)
        self._store: Store = ValkeyStore(config.valkey_url) if config.valkey_url else MemoryStore()
        self._library = Library(_cache(config.valkey_url))
        self._quotas = RateLimitQuota(self.views, self.metrics, serving=config.valkey_url is None)
        self._lease = Lease(config.valkey_url, self._share_out) if config.valkey_url else None
        self._access_log = AccessLog(TrafficTable(self._engine).write, self.metrics)
        self._health: Any = health.aio.HealthServicer()
        self._serving = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._servers = self._make_servers()
        self._scrapes: Any = None

    async def start(self) -> None:
        """Raises ValueError for an address that is not allowed, OSError for one that cannot be bound."""
        if self._config.valkey_url:
            _counted_in_plaintext(self._config.valkey_url, allowed=self._config.insecure_plaintext)
        if self._config.tls is None:
            for address in filter(None, (self._config.address, self._config.streams_address)):
                _plaintext(address, allowed=self._config.insecure_plaintext)
        await self._report(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._share_out(self._quotas.serving)
        self.port, self.streams_port = await self._servers.start()
        self._start_metrics()
        follower = Follower(
            self._engine, HeadWatch(self._config.database_url), self.views, self._keys, self._serving.set
        )
        work = [follower.run(), self._announce(), self._flush(), self._quotas.run(), self._access_log.run()]
        if self._lease is not None:
            work.append(self._lease.run())
        self._tasks = [asyncio.create_task(one) for one in work]
        log.info("decisions_started", address=self._config.address, port=self.port)

    async def stop(self, drain: float = DRAIN) -> None:
        """Health first, so that nobody new comes; then up to `drain` seconds for those who are being answered."""
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(min(drain, NOTICED))  # grpcio refuses what comes after this, and Envoy would still send it
        self._quotas.serve(False)  # its streams would outlast any drain
        self._access_log.end()
        if self._lease is not None:
            await self._lease.close()
        await self._servers.stop(drain)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._flush_once()
        with contextlib.suppress(Unavailable):
            await self._access_log.flush()
        await self._keys.close()
        self._users.close()
        await self._store.close()
        await self._library.close()
        await engines.close(self._engine)
        if self._scrapes is not None:
            server, thread = self._scrapes
            await asyncio.to_thread(server.shutdown)
            server.server_close()
            await asyncio.to_thread(thread.join)
        log.info("decisions_stopped")

    async def ready(self) -> None:
        """Returns when the first view is in force."""
        await self._serving.wait()

    def _make_servers(self) -> Servers:
        limits = RateLimit(self.views, self._store, self.metrics)
        authorization = Authorization(
            self.views,
            self._keys,
            self._last_used,
            self._config.peppers,
            self.metrics,
            self._users,
            limits,
            self._rehashing,
        )
        cache = ResponseCache(self._library, self.metrics)
        config = self._config
        return Servers(
            (authorization.method(), limits.method()),
            (cache.handler(), self._quotas.handler(), self._access_log.handler()),
            self._health,
            addresses=Addresses(config.address, config.streams_address),
            transport=config.transport,
            tls=config.tls,
        )

    def _start_metrics(self) -> None:
        if self._config.metrics_address is None:
            return
        host, port = host_and_port(self._config.metrics_address)
        self._scrapes = start_http_server(port, host, registry=self.metrics.registry)
        self.metrics_port = self._scrapes[0].server_port

    async def _announce(self) -> None:
        await self._serving.wait()
        await self._report(health_pb2.HealthCheckResponse.SERVING)
        await self._share_out(self._quotas.serving)

    async def _share_out(self, sharing: bool) -> None:
        """Whether it is this process that shares out quotas. Its health says so: Envoys open their streams there."""
        self._quotas.serve(sharing)
        states = health_pb2.HealthCheckResponse
        ready = sharing and self._serving.is_set()
        await self._health.set(QUOTAS, states.SERVING if ready else states.NOT_SERVING)

    async def _report(self, status: Any) -> None:
        for service in SERVICES:
            await self._health.set(service, status)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            await self._flush_once()

    async def _flush_once(self) -> None:
        try:
            await self._last_used.flush()
            await self._rehashing.flush()
        except Exception as error:
            log.error("last_used_not_written", **where(error))


async def start(config: DecisionsConfig, registry: CollectorRegistry | None = None) -> Decisions:
    """A decision service that answers; until its first view is loaded it answers UNAVAILABLE and is NOT_SERVING."""
    decisions = Decisions(config, registry)
    try:
        await decisions.start()
    except BaseException:
        await decisions.stop(0)
        raise
    return decisions


async def run(config: DecisionsConfig) -> None:
    """Until SIGTERM or SIGINT; then drains and returns."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    decisions = await start(config)
    try:
        await stopping.wait()
    finally:
        await decisions.stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def serve(config: DecisionsConfig) -> None:
    """`run` on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(run(config))
    else:
        uvloop.run(run(config))


def _cache(valkey_url: str | None) -> cache_stores.Store:
    return ValkeyCache(valkey_url) if valkey_url else cache_stores.MemoryStore()


def _counted_in_plaintext(url: str, *, allowed: bool) -> None:
    if not parse(url).exposed:
        return
    if not allowed:
        raise ValueError(
            "the Valkey of --valkey-url is on another machine: its password, counters and kept responses would cross "
            "the network in plain text. Say valkeys:// for TLS, or --insecure-plaintext to accept that."
        )
    log.warning("counters_in_plaintext", risk="whoever sits between reads responses and sets counters")


def _plaintext(address: str, *, allowed: bool) -> None:
    host, _ = host_and_port(address)
    loopback = host == "localhost"
    with contextlib.suppress(ValueError):
        loopback = loopback or ipaddress.ip_address(host).is_loopback
    if loopback:
        return
    if not allowed:
        raise ValueError(
            f"{address} is not loopback: API keys would cross the network in plain text, and anybody there could ask "
            "for decisions. Say --insecure-plaintext to accept that."
        )
    log.warning("decisions_in_plaintext", address=address, risk="API keys cross the network in plain text")
