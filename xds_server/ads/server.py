"""The gRPC server of the control plane: ADS and the per-type services in both variants, and gRPC health."""

import asyncio
import ipaddress
import random
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from xds_server.ads import convergence, csds
from xds_server.ads.delta import DeltaStream
from xds_server.ads.hub import Hub
from xds_server.ads.identity import Access, Gate, caller
from xds_server.ads.metrics import AdsMetrics
from xds_server.ads.servicer import Call, Ended, Pace, Tokens, Turnstile, first_of, status
from xds_server.ads.sotw import SotwStream
from xds_server.ads.stream import Limits
from xds_server.ads.tls import ServerTls
from xds_server.ads.wire import Encoder, delta_encoder, sotw_encoder
from xds_server.resources import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    RATE_LIMITS,
    ROUTES,
    RUNTIME,
    SCOPED_ROUTES,
    SECRET,
    VIRTUAL_HOST,
)

log = structlog.get_logger(__name__)

ADS: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"

SERVICES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        ADS: ("AggregatedResources", ""),
        "envoy.service.cluster.v3.ClusterDiscoveryService": ("Clusters", CLUSTER),
        "envoy.service.endpoint.v3.EndpointDiscoveryService": ("Endpoints", ENDPOINTS),
        "envoy.service.secret.v3.SecretDiscoveryService": ("Secrets", SECRET),
        "envoy.service.extension.v3.ExtensionConfigDiscoveryService": ("ExtensionConfigs", EXTENSION),
        "envoy.service.listener.v3.ListenerDiscoveryService": ("Listeners", LISTENER),
        "envoy.service.route.v3.RouteDiscoveryService": ("Routes", ROUTES),
        "envoy.service.route.v3.ScopedRoutesDiscoveryService": ("ScopedRoutes", SCOPED_ROUTES),
        "envoy.service.route.v3.VirtualHostDiscoveryService": ("VirtualHosts", VIRTUAL_HOST),
        "envoy.service.runtime.v3.RuntimeDiscoveryService": ("Runtime", RUNTIME),
        "ratelimit.service.ratelimit.v3.RateLimitConfigDiscoveryService": ("RlsConfigs", RATE_LIMITS),
    }
)
"""Service to the suffix of its Stream… and Delta… methods and the type that it implies. Fetch… is not offered."""

VARIANTS: Final[Mapping[str, type[SotwStream] | type[DeltaStream]]] = MappingProxyType(
    {"Stream": SotwStream, "Delta": DeltaStream}
)

ONE_VARIANT: Final[Mapping[str, str]] = MappingProxyType({VIRTUAL_HOST: "Delta", RATE_LIMITS: "Stream"})
"""Types whose own service defines one of the two methods only."""

HEALTH: Final = tuple(f"/{health.SERVICE_NAME}/{method}" for method in ("Check", "Watch"))

METHODS: Final[Mapping[str, Access]] = MappingProxyType(
    {
        **{
            f"/{service}/{prefix}{suffix}": Access.NODE
            for service, (suffix, implied) in SERVICES.items()
            for prefix in VARIANTS
            if ONE_VARIANT.get(implied, prefix) == prefix
        },
        **dict.fromkeys(csds.PATHS, Access.READER),
        **dict.fromkeys(HEALTH, Access.OPEN),
    }
)
"""Every method that is answered, by its exact path, and who may call it."""

STREAMS_PER_SECOND: Final = 200
"""How many streams a stopping server ends in a second."""

OPTIONS: Final = (
    # Two processes on one port would split the streams between them silently; the second one must fail instead.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),  # more than `Pace` takes, so that the refusal is ours
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 0),
    # A certificate is looked at in the handshake only: one that has run out must not serve new streams for long.
    ("grpc.max_connection_age_ms", 30 * 60 * 1000),
)


@dataclass(frozen=True, slots=True)
class AdsOptions:
    """`max_age` seconds a stream lives, give or take a fifth, so that replicas share streams again; None for ever."""

    max_age: float | None = 1800.0
    limits: Limits = field(default_factory=Limits)
    pace: Pace = field(default_factory=Pace)
    grpc: tuple[tuple[str, int], ...] = OPTIONS


def stream_age(max_age: float, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """Streams that were opened together must not all come back together (R26)."""
    return max_age * uniform(0.8, 1.2)


class Closing:
    """The end of a server: its streams end one by one, so that their nodes do not all arrive elsewhere at once."""

    def __init__(self) -> None:
        self.streams = 0
        self._begun = asyncio.Event()
        self._spread = 0.0

    def begin(self, grace: float) -> None:
        self._spread = min(grace / 2, self.streams / STREAMS_PER_SECOND)
        self._begun.set()

    async def turn(self) -> None:
        """Wait until it is this stream's turn to end."""
        await self._begun.wait()
        await asyncio.sleep(random.uniform(0, self._spread))  # noqa: S311 - no secret


class AdsServer:
    """A running server. `port` is the one it got."""

    def __init__(self, server: Any, checks: Any, port: int, closing: Closing, serving: "asyncio.Task[None]") -> None:
        self.port = port
        self._server, self._checks, self._closing, self._serving = server, checks, closing, serving

    async def stop(self, grace: float = 5.0) -> None:
        """Health first, then GOAWAY and the end of every stream; what has not ended after `grace` seconds is cut."""
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)
        await self._checks.enter_graceful_shutdown()
        self._closing.begin(grace)
        await self._server.stop(grace)


async def start(
    hub: Hub,
    address: str,
    *,
    options: AdsOptions | None = None,
    registry: CollectorRegistry | None = None,
    tls: ServerTls | None = None,
    insecure_plaintext: bool = False,
) -> AdsServer:
    """Serve `hub` on `address` ("host:port", port 0 for any).

    Without `tls` the address must be loopback: whoever reaches the port could read every secret. `insecure_plaintext`
    takes that risk. Raises ValueError for such an address or files that are no certificates, OSError if it cannot be
    bound or a file cannot be read.
    """
    options = options or AdsOptions()
    if tls is None:
        _plaintext(address, insecure_plaintext)
    metrics, closing = AdsMetrics(registry or CollectorRegistry()), Closing()
    gate = Gate(METHODS, tls.trust_domain if tls else None)
    server = grpc.aio.server(interceptors=(gate,), options=options.grpc)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    server.add_generic_rpc_handlers(tuple(_handlers(hub, options, metrics, closing)))
    server.add_generic_rpc_handlers((csds.handler(hub),))
    port = _bind(server, address, tls and tls.credentials(metrics.expires.labels("server").set))
    await _report(checks, health_pb2.HealthCheckResponse.NOT_SERVING)
    await server.start()
    log.info("xds server started", address=address, port=port, tls=tls is not None)
    return AdsServer(server, checks, port, closing, asyncio.create_task(_serving(hub, checks, metrics)))


def _bind(server: Any, address: str, credentials: Any) -> int:
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from error


def _plaintext(address: str, allowed: bool) -> None:
    if _loopback(address):
        return
    if not allowed:
        raise ValueError(
            f"{address} is not a loopback address: xDS without TLS would hand every secret to whoever connects; "
            "pass tls, or insecure_plaintext to take that risk"
        )
    log.warning(
        "xds is served without TLS beyond this machine: every secret can be read by whoever connects", address=address
    )


def _loopback(address: str) -> bool:
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _serving(hub: Hub, checks: Any, metrics: AdsMetrics) -> None:
    await hub.published()
    await _report(checks, health_pb2.HealthCheckResponse.SERVING)
    await convergence.measure(hub, metrics.convergence_seconds)


async def _report(checks: Any, state: Any) -> None:
    for service in ("", *SERVICES):
        await checks.set(service, state)


def _handlers(hub: Hub, options: AdsOptions, metrics: AdsMetrics, closing: Closing) -> list[Any]:
    encoders: Mapping[Any, Encoder] = {SotwStream: sotw_encoder(), DeltaStream: delta_encoder()}
    turnstile = Turnstile(Tokens(options.pace.streams_rate, options.pace.streams))
    handlers = []
    for service, (suffix, implied) in SERVICES.items():
        methods = {
            f"{prefix}{suffix}": grpc.stream_stream_rpc_method_handler(
                # bytes in, bytes out
                _behaviour(hub, options, metrics, turnstile, closing, kind, encoders[kind], implied)
            )
            for prefix, kind in VARIANTS.items()
            if ONE_VARIANT.get(implied, prefix) == prefix
        }
        handlers.append(grpc.method_handlers_generic_handler(service, methods))
    return handlers


def _behaviour(
    hub: Hub,
    options: AdsOptions,
    metrics: AdsMetrics,
    turnstile: Turnstile,
    closing: Closing,
    kind: type[SotwStream] | type[DeltaStream],
    encoder: Encoder,
    implied: str,
) -> Any:
    async def in_turn(call: Call, requests: AsyncIterator[bytes]) -> None:
        await turnstile.turn()
        await call.run(requests)

    async def stream(requests: AsyncIterator[bytes], context: Any) -> None:
        machine = kind(f"{secrets.token_hex(4)}-", implied, options.limits)
        call = Call(hub, machine, encoder, metrics, options.pace, context, caller())
        age = stream_age(options.max_age) if options.max_age is not None else None
        closing.streams += 1
        try:
            async with asyncio.timeout(age):
                await first_of(in_turn(call, requests), closing.turn())
        except TimeoutError:
            log.debug("xds stream reached its age", peer=context.peer())
        except Ended as ended:
            log.warning("xds stream refused", peer=context.peer(), reason=ended.reject.message)
            await context.abort(status(ended.reject), ended.reject.message)
        finally:
            closing.streams -= 1

    return stream
