"""The linter of hardening: what must stand in every message of a compiled gateway, wherever the message is.

`faults` walks any compiled output, by the tables of `hardened_fields` and the rules here. Neither looks at how the
compiler does it, so that no new way of compiling can pass by them.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.rbac.v3.rbac_pb2 import Permission, Principal
from envoy.config.route.v3.route_components_pb2 import RateLimit as Descriptor
from envoy.config.route.v3.route_components_pb2 import Route
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.access_loggers.stream.v3.stream_pb2 import StdoutAccessLog
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication, JwtProvider, JwtRequirement
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.transport_sockets.quic.v3.quic_transport_pb2 import QuicDownstreamTransport
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from .hardened_fields import ADJUSTABLE, FORGED, HTTP3, MANAGER, QUIC, TABLES, THRESHOLD, Table
from .walking import Found, walk

ZEROES: Final = (False, "", 0)
"""What an unset plain field reads as."""


def faults(messages: Iterable[Message], adjusted: Container[str] = ()) -> list[str]:
    """Everything that is not as it must be. `adjusted`: listeners whose document sets limits of their own."""
    found = [*messages]
    return [fault for message in found for fault in of_message(message, adjusted)] + missing_removals(found)


def of_message(message: Message, adjusted: Container[str]) -> Iterator[str]:
    name = getattr(message, "name", message.DESCRIPTOR.name)
    own = ADJUSTABLE if name in adjusted else {}
    for place, inner in walk(message, f"{message.DESCRIPTOR.name} {name}"):
        table = TABLES.get(type(inner), {})
        if isinstance(inner, HttpConnectionManager):
            table = {**MANAGER, **own, **(HTTP3 if inner.codec_type == HttpConnectionManager.HTTP3 else {})}
        yield from (f"{place}: {path} is {seen!r}" for path, seen in wrong(inner, table))
        for rule in RULES.get(type(inner), ()):
            yield from (f"{place}: {fault}" for fault in rule((place, inner)))


def wrong(message: Message, table: Table) -> Iterator[tuple[str, Any]]:
    """The fields that are not as wanted, with what they are."""
    found = MessageToDict(message, preserving_proto_field_name=True) if table else {}
    for path, wanted in table.items():
        seen: Any = found
        for name in path.split("."):
            seen = seen.get(name) if isinstance(seen, dict) else None
        if callable(wanted):
            if not wanted(seen):
                yield path, seen
        elif seen != wanted and not (seen is None and wanted in ZEROES):
            yield path, seen


def of_listener(found: Found) -> Iterator[str]:
    """QUIC has its own fields and no client certificates; the header about those is true or not there."""
    listener = found[1]
    assert isinstance(listener, Listener)
    quic = listener.HasField("udp_listener_config")
    if quic:
        yield from (f"{path} is {seen!r}" for path, seen in wrong(listener, QUIC))
    for chain in listener.filter_chains:
        inside = [inner for _, inner in walk(chain)]
        validated = any(
            isinstance(one, DownstreamTlsContext) and one.common_tls_context.HasField("combined_validation_context")
            for one in inside
        )
        wanted = HttpConnectionManager.SANITIZE_SET if validated else HttpConnectionManager.SANITIZE
        for manager in (one for one in inside if isinstance(one, HttpConnectionManager)):
            if manager.forward_client_cert_details != wanted:
                yield f"{chain.name}: forward_client_cert_details is {manager.forward_client_cert_details}"
            if (manager.codec_type == HttpConnectionManager.HTTP3) is not quic:
                yield f"{chain.name}: HTTP/3 goes with QUIC"
        if quic and (validated or not any(isinstance(one, QuicDownstreamTransport) for one in inside)):
            yield f"{chain.name}: QUIC without its transport, or with client certificates"


def of_downstream(found: Found) -> Iterator[str]:
    context = found[1]
    assert isinstance(context, DownstreamTlsContext)
    if not context.common_tls_context.HasField("combined_validation_context"):
        return
    combined = context.common_tls_context.combined_validation_context
    if not context.HasField("require_client_certificate"):
        yield "it is not said whether a client certificate is required"
    if not combined.HasField("validation_context_sds_secret_config"):
        yield "client certificates without an authority"
    if combined.default_validation_context.trust_chain_verification:
        yield "client certificates that are not verified"


def of_manager(found: Found) -> Iterator[str]:
    """The filters that decide are all there, in order, and none of them can be switched off by default."""
    manager = found[1]
    assert isinstance(manager, HttpConnectionManager)
    names = [filter_.name for filter_ in manager.http_filters]
    if [name for name in names if name in DECIDING] != list(DECIDING):
        yield f"the filters that decide are {names}"
    if names[-1] != "envoy.filters.http.router":
        yield f"the last filter is {names[-1]}"
    yield from (f"{f.name} is disabled" for f in manager.http_filters if f.name in DECIDING and f.disabled)
    yield from (f"{f.name} is optional" for f in manager.http_filters if f.is_optional)
    if manager.WhichOneof("route_specifier") not in {"rds", "scoped_routes"}:
        yield "routes that do not come over ADS"


DECIDING: Final = (
    "tollhouse/identity_headers",
    "tollhouse/jwt_authn",
    "tollhouse/ext_authz",
    "envoy.filters.http.rbac",
    "envoy.filters.http.ratelimit",
    "envoy.filters.http.router",
)
SAYS_WHO: Final = {"tollhouse/jwt_authn", "tollhouse/ext_authz", "envoy.filters.http.rbac"}


def of_cluster(found: Found) -> Iterator[str]:
    cluster = found[1]
    assert isinstance(cluster, Cluster)
    for threshold in cluster.circuit_breakers.thresholds:
        yield from (f"circuit breaker: {path} is {seen!r}" for path, seen in wrong(threshold, THRESHOLD))
        if not threshold.HasField("retry_budget"):
            yield "circuit breaker: no retry_budget"
    if len(cluster.circuit_breakers.thresholds) != 1:
        yield "circuit breaker: not one threshold"
    if not cluster.common_lb_config.HasField("healthy_panic_threshold"):
        yield "healthy_panic_threshold is not set"


def of_table(found: Found) -> Iterator[str]:
    table = found[1]
    assert isinstance(table, RouteConfiguration)
    if not set(table.request_headers_to_remove) >= FORGED:
        yield f"these stay: {sorted(FORGED - set(table.request_headers_to_remove))}"
    if not any("*" in host.domains for host in table.virtual_hosts):
        yield "there is no virtual host for all others"


def of_route(found: Found) -> Iterator[str]:
    """Who may call is said at each route, what is sent on is timed, and no prefix ends within a segment."""
    route = found[1]
    assert isinstance(route, Route)
    missing = SAYS_WHO - set(route.typed_per_filter_config)
    if missing:
        yield f"{route.name} says nothing to {sorted(missing)}"
    prefix, action = route.match.prefix, route.route
    if prefix and not prefix.endswith("/"):
        yield f"{route.name} has the prefix {prefix}"
    if prefix and (action.prefix_rewrite or route.redirect.prefix_rewrite):
        yield f"{route.name} rewrites a plain prefix"
    if route.HasField("route") and action.cluster != "tollhouse/nowhere":
        if not action.HasField("timeout") or not action.HasField("idle_timeout"):
            yield f"{route.name} is not timed"
        if action.retry_policy.num_retries.value > 10:
            yield f"{route.name} is tried {action.retry_policy.num_retries.value} times"


def of_provider(found: Found) -> Iterator[str]:
    provider = found[1]
    assert isinstance(provider, JwtProvider)
    if not provider.from_headers and not provider.from_cookies:
        yield "no place for the token: ?access_token= would be read"


def of_requirement(found: Found) -> Iterator[str]:
    requirement = found[1]
    assert isinstance(requirement, JwtRequirement)
    if requirement.WhichOneof("requires_type") in {"allow_missing_or_failed", "extract_only_without_validation", None}:
        yield "a requirement that anything meets"


def of_jwt(found: Found) -> Iterator[str]:
    config = found[1]
    assert isinstance(config, JwtAuthentication)
    catch_all = [rule for rule in config.rules if rule.match.prefix == "/" and rule.HasField("requires")]
    if config.providers and (not catch_all or config.rules[-1] != catch_all[-1]):
        yield "what names no requirement is let in"


def of_rbac(found: Found) -> Iterator[str]:
    """Nobody is let in for a header that they have written: only the method is not theirs to lie about."""
    rule = found[1]
    assert isinstance(rule, (Permission, Principal))
    if rule.HasField("header") and rule.header.name not in {":method", ":path"}:
        yield f"authorisation on the header {rule.header.name}"
    if isinstance(rule, Principal) and rule.HasField("source_ip"):
        yield "authorisation on the address of the nearest proxy"


def of_descriptor(found: Found) -> Iterator[str]:
    action = found[1]
    assert isinstance(action, Descriptor.Action)
    kind = action.WhichOneof("action_specifier")
    if kind in {"request_headers", "header_value_match", "query_parameters", "query_parameter_value_match"}:
        yield f"a limit that callers choose themselves, by {kind}"


def of_log(found: Found) -> Iterator[str]:
    config = found[1]
    assert isinstance(config, StdoutAccessLog)
    if "%RESPONSE_CODE_DETAILS%" not in str(config.log_format.json_format):
        yield "not JSON, or without the details of the answer"


RULES: Final[Mapping[type[Message], tuple[Callable[[Found], Iterator[str]], ...]]] = {
    Listener: (of_listener,),
    HttpConnectionManager: (of_manager,),
    DownstreamTlsContext: (of_downstream,),
    Cluster: (of_cluster,),
    RouteConfiguration: (of_table,),
    Route: (of_route,),
    JwtAuthentication: (of_jwt,),
    JwtProvider: (of_provider,),
    JwtRequirement: (of_requirement,),
    Permission: (of_rbac,),
    Principal: (of_rbac,),
    Descriptor.Action: (of_descriptor,),
    StdoutAccessLog: (of_log,),
}


def missing_removals(messages: Iterable[Message]) -> list[str]:
    """Headers that tell upstreams who calls, and that some route table lets clients write."""
    found = [*messages]
    ours = {
        header.header_name.lower()
        for message in found
        for _, inner in walk(message)
        if isinstance(inner, JwtProvider)
        for header in inner.claim_to_headers
    }
    tables = [message for message in found if isinstance(message, RouteConfiguration)]
    return [f"RouteConfiguration {t.name}: clients may write {name}" for t in tables for name in ours - removed(t)]


def removed(table: RouteConfiguration) -> set[str]:
    config = table.typed_per_filter_config.get("tollhouse/identity_headers")
    inside = walk(config) if config is not None else ()
    return {str(mutation.remove).lower() for _, mutation in inside if getattr(mutation, "remove", "")}
