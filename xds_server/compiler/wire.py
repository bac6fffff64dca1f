"""Small shapes of Envoy's API that every part of the compiler writes: durations, wrapped numbers, Anys, matchers."""

import hashlib
from collections.abc import Iterable

from envoy.config.core.v3.address_pb2 import Address, CidrRange, SocketAddress
from envoy.config.core.v3.backoff_pb2 import BackoffStrategy
from envoy.config.core.v3.base_pb2 import RetryPolicy
from envoy.config.core.v3.config_source_pb2 import V3, AggregatedConfigSource, ConfigSource
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2 import PreviousHostsPredicate
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from xds_server.resources import PREFIX

OTHERS = "envoy.retry_host_predicates.previous_hosts"


def duration(milliseconds: int) -> Duration:
    seconds, rest = divmod(milliseconds, 1000)
    return Duration(seconds=seconds, nanos=rest * 1_000_000)


def uint32(value: int) -> UInt32Value:
    return UInt32Value(value=value)


def boolean(value: bool) -> BoolValue:
    return BoolValue(value=value)


def pack(message: Message) -> Any:
    """`message` as an Any, with the same bytes in every process."""
    return Any(type_url=PREFIX + message.DESCRIPTOR.full_name, value=message.SerializeToString(deterministic=True))


def extension(name: str, message: Message) -> TypedExtensionConfig:
    return TypedExtensionConfig(name=name, typed_config=pack(message))


def fingerprint(messages: Iterable[Message], head: str = "") -> str:
    """What tells these messages, after this text, from all others; the same in every process."""
    digest = hashlib.blake2b(head.encode(), digest_size=6)
    for message in messages:
        digest.update(message.SerializeToString(deterministic=True))
    return digest.hexdigest()


def exact(value: str) -> StringMatcher:
    return StringMatcher(exact=value)


def regex(pattern: str) -> StringMatcher:
    """Envoy matches the whole value, as `fullmatch` does."""
    return StringMatcher(safe_regex=RegexMatcher(regex=pattern))


def literal(text: str) -> str:
    """`text` as an RE2 pattern that matches just that."""
    return "".join(c if c.isalnum() or c in "/-_ " or ord(c) > 127 else "\\" + c for c in text)


def socket_address(host: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def cidr(text: str) -> CidrRange:
    """`10.0.0.0/8`, or an address alone for just that address."""
    address, _, length = text.partition("/")
    bits = int(length) if length else (128 if ":" in address else 32)
    return CidrRange(address_prefix=address, prefix_len=uint32(bits))


def ads() -> ConfigSource:
    return ConfigSource(resource_api_version=V3, ads=AggregatedConfigSource())


def grpc_service(cluster: str, timeout: int) -> GrpcService:
    """A gRPC service by cluster, with a timeout in milliseconds.

    A question that was not delivered is put to another host, so a process that goes away costs nobody an answer. One
    that may have been received is not: it could be counted twice.
    """
    retry = RetryPolicy(
        retry_on="connect-failure,refused-stream,reset-before-request",
        num_retries=uint32(3),
        # Envoy makes the longest pause the timeout of each try too (Http::Utility::convertCoreToRouteRetryPolicy).
        retry_back_off=BackoffStrategy(base_interval=duration(1), max_interval=duration(timeout)),
        retry_host_predicate=[RetryPolicy.RetryHostPredicate(name=OTHERS, typed_config=pack(PreviousHostsPredicate()))],
        host_selection_retry_max_attempts=20,
    )
    envoy_grpc = GrpcService.EnvoyGrpc(cluster_name=cluster)
    return GrpcService(envoy_grpc=envoy_grpc, timeout=duration(timeout), retry_policy=retry)
