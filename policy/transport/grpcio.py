"""The same methods on grpcio, beside whatever streams there are."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import grpc

from policy.transport.core import LARGEST
from policy.transport.method import Method
from policy.transport.tls import TlsFiles, credentials

OPTIONS: Final = (
    # Two processes on one port would split the requests between them silently; the second one must fail instead.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", LARGEST),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)


def server(in_flight: int) -> Any:
    """A grpc.aio.Server. `in_flight`: calls at once; more are refused (RESOURCE_EXHAUSTED)."""
    return grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=in_flight)


def handlers(methods: Iterable[Method[Any, Any]]) -> list[Any]:
    """Bytes pass through: a method parses and serialises by itself."""
    services: dict[str, dict[str, Any]] = defaultdict(dict)
    for method in methods:
        _, service, name = method.path.split("/")
        services[service][name] = grpc.unary_unary_rpc_method_handler(method.serve)
    return [grpc.method_handlers_generic_handler(service, named) for service, named in services.items()]


def bind(server: Any, address: str, tls: TlsFiles | None = None) -> int:
    """The port that it got. Raises OSError."""
    try:
        if tls is not None:
            return int(server.add_secure_port(address, credentials(tls)))
        return int(server.add_insecure_port(address))
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: it is in use, or not an address of this machine") from error
