"""The linter's rules that are more than one field: each is broken once, in what the compiler made, and found."""

from collections.abc import Callable
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.rbac.v3.rbac_pb2 import Principal
from envoy.config.route.v3.route_components_pb2 import RateLimit as Descriptor
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.access_loggers.stream.v3.stream_pb2 import StdoutAccessLog
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.transport_sockets.quic.v3.quic_transport_pb2 import QuicDownstreamTransport
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from google.protobuf.message import Message

from gateway.checks.overrides import FORBIDDEN
from xds_server.compiler.tables.reading import routes_of
from xds_server.compiler.wire import pack

from .golden import compiled
from .hardened import RULES, faults, missing_removals, removed
from .walking import walk

Change = Callable[[Any], None]


def first(kind: type[Message], case: str, fits: Callable[[Any], bool] = lambda _: True) -> Any:
    """A copy of the first such message in a case."""
    found = next(
        inner for m in compiled(case).messages for _, inner in walk(m) if isinstance(inner, kind) and fits(inner)
    )
    copied: Any = kind()
    copied.CopyFrom(found)
    return copied


def said(message: Message) -> list[str]:
    return [fault for rule in RULES[type(message)] for fault in rule(("", message))]


def route(case: str = "decided") -> Any:
    """A route to an upstream."""
    tables = (m for m in compiled(case).messages if isinstance(m, RouteConfiguration))
    routes = (one for table in tables for host in table.virtual_hosts for one in routes_of(host))
    return next(one for one in routes if one.route.cluster not in {"", "tollhouse/nowhere"})


def plain_prefix(found: Any) -> None:
    found.match.prefix = "/admin"


def rewritten(found: Any) -> None:
    found.match.prefix = "/admin/"
    found.route.prefix_rewrite = "/"


def silent(found: Any) -> None:
    del found.typed_per_filter_config["tollhouse/ext_authz"]


def endless(found: Any) -> None:
    found.route.ClearField("idle_timeout")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (plain_prefix, "has the prefix /admin"),
        (rewritten, "rewrites a plain prefix"),
        (silent, "says nothing to ['tollhouse/ext_authz']"),
        (endless, "is not timed"),
    ],
)
def test_routes(change: Change, fault: str) -> None:
    found = route()
    assert said(found) == []
    change(found)
    assert [text.partition(" ")[2] for text in said(found)] == [fault]


def out_of_order(found: Any) -> None:
    filters = list(found.http_filters)
    del found.http_filters[:]
    found.http_filters.extend(reversed(filters))


def switched_off(found: Any) -> None:
    next(f for f in found.http_filters if f.name == "envoy.filters.http.rbac").disabled = True


def optional(found: Any) -> None:
    found.http_filters[0].is_optional = True


def its_own_routes(found: Any) -> None:
    found.route_config.name = "here"


@pytest.mark.parametrize("change", [out_of_order, switched_off, optional, its_own_routes])
def test_connection_managers(change: Change) -> None:
    found = first(HttpConnectionManager, "decided")
    assert said(found) == []
    change(found)
    assert said(found)


def test_who_a_client_is_is_told_where_certificates_are_checked_and_nowhere_else() -> None:
    for case, name in (("decided", ""), ("listener-tls", "partners")):
        found = first(Listener, case, lambda one, name=name: name in one.name)  # type: ignore[misc]
        assert said(found) == []
        for chain in found.filter_chains:
            manager = HttpConnectionManager.FromString(chain.filters[0].typed_config.value)
            told = manager.forward_client_cert_details == HttpConnectionManager.SANITIZE_SET
            manager.forward_client_cert_details = (
                HttpConnectionManager.SANITIZE if told else HttpConnectionManager.SANITIZE_SET
            )
            chain.filters[0].typed_config.CopyFrom(pack(manager))
        assert len(said(found)) == len(found.filter_chains)


def test_quic_checks_no_client_certificates() -> None:
    found = first(Listener, "listener-tls", lambda one: one.HasField("udp_listener_config"))
    clients = first(DownstreamTlsContext, "listener-tls", lambda one: one.HasField("require_client_certificate"))
    assert said(found) == []
    chain = found.filter_chains[0]
    chain.transport_socket.typed_config.CopyFrom(pack(QuicDownstreamTransport(downstream_tls_context=clients)))
    assert any("with client certificates" in text for text in said(found))


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.ClearField("require_client_certificate"),
        lambda found: found.common_tls_context.combined_validation_context.ClearField(
            "validation_context_sds_secret_config"
        ),
        lambda found: setattr(
            found.common_tls_context.combined_validation_context.default_validation_context,
            "trust_chain_verification",
            1,
        ),
    ],
    ids=["unsaid", "no-authority", "unverified"],
)
def test_client_certificates(change: Change) -> None:
    found = first(DownstreamTlsContext, "listener-tls", lambda one: one.HasField("require_client_certificate"))
    assert said(found) == []
    change(found)
    assert len(said(found)) == 1


def test_tokens() -> None:
    found = first(JwtAuthentication, "native-jwt", lambda one: bool(one.providers))
    assert said(found) == []
    del found.rules[:]
    assert said(found) == ["what names no requirement is let in"]
    anything: Any = TypedExtensionConfig(name="tollhouse/jwt_authn")
    config = JwtAuthentication()
    config.requirement_map["any"].allow_missing_or_failed.SetInParent()
    anything.typed_config.CopyFrom(pack(config))
    assert any("anything meets" in text for text in faults([anything]))


def test_authorisation_on_headers() -> None:
    assert said(Principal(header={"name": "x-role", "present_match": True})) == ["authorisation on the header x-role"]  # type: ignore[arg-type]
    assert said(Principal(header={"name": ":method", "present_match": True})) == []  # type: ignore[arg-type]


def test_limits_by_what_callers_write() -> None:
    action: Any = Descriptor.Action()
    action.request_headers.header_name = "x-client"
    assert said(action) == ["a limit that callers choose themselves, by request_headers"]


def test_clusters_and_logs() -> None:
    cluster = first(Cluster, "upstreams")
    assert said(cluster) == []
    cluster.circuit_breakers.thresholds[0].ClearField("retry_budget")
    cluster.common_lb_config.ClearField("healthy_panic_threshold")
    assert len(said(cluster)) == 2
    assert said(StdoutAccessLog()) == ["not JSON, or without the details of the answer"]


def test_tables() -> None:
    messages = compiled("native-jwt").messages
    table = first(RouteConfiguration, "native-jwt")
    assert said(table) == missing_removals(messages) == []
    assert removed(table)
    table.ClearField("typed_per_filter_config")
    table.ClearField("request_headers_to_remove")
    table.ClearField("virtual_hosts")
    assert len(said(table)) == 2
    others = [m for m in messages if not isinstance(m, RouteConfiguration)]
    assert any("clients may write" in text for text in missing_removals([*others, table]))


@pytest.mark.parametrize(
    "field", ["early_header_mutation_extensions", "forward_client_cert_details", "set_current_client_cert_details"]
)
def test_no_raw_override_reaches_what_callers_are_told_apart_by(field: str) -> None:
    """A list is replaced by an override: then clients could write the headers that the listener finds its routes by."""
    assert field in FORBIDDEN["http_connection_manager"]
