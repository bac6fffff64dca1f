"""Raw overrides and addresses where no upstream may be: the edges that golden cases do not show."""

from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import Route
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from google.protobuf.message import Message

from gateway.checks.overrides import FORBIDDEN, HARDENED
from gateway.model import decode
from xds_server.compiler import Settings, chain, compile, hardening, raw  # noqa: A004
from xds_server.compiler.errors import CompileError
from xds_server.compiler.unsafe_upstreams import unsafe
from xds_server.compiler.wire import pack

MESSAGES: dict[str, type[Message]] = {
    "route": Route,
    "cluster": Cluster,
    "listener": Listener,
    "http_connection_manager": HttpConnectionManager,
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_what_overrides_are_told_of_are_fields_of_envoys(kind: str) -> None:
    assert HARDENED[kind] | FORBIDDEN[kind] <= set(MESSAGES[kind].DESCRIPTOR.fields_by_name)


def test_every_hardened_field_is_told_when_an_override_touches_it() -> None:
    manager = {field.name for field, _ in hardening.connection_manager("http").ListFields()}
    assert manager <= HARDENED["http_connection_manager"] | FORBIDDEN["http_connection_manager"]
    assert set(hardening.listener_fields()) <= HARDENED["listener"]
    assert set(hardening.cluster_fields()) <= HARDENED["cluster"]


OURS = frozenset({"envoy.filters.http.rbac"})
DISABLED = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
RBAC_OFF = {"envoy.filters.http.rbac": DISABLED}


def route() -> Route:
    return Route(name="m/r", typed_per_filter_config={"envoy.filters.http.rbac": pack(Route(name="stands"))})


def test_what_our_filters_say_stays_beside_what_others_are_told() -> None:
    found = route()
    raw.apply(found, {"typed_per_filter_config": {"other": DISABLED}}, ours=OURS)
    assert set(found.typed_per_filter_config) == {"envoy.filters.http.rbac", "other"}


@pytest.mark.parametrize(
    "overrides",
    [
        {"typed_per_filter_config": RBAC_OFF},
        {"typedPerFilterConfig": RBAC_OFF},
        {"route": {"weighted_clusters": {"clusters": [{"typed_per_filter_config": RBAC_OFF}]}}},
        {"route": {"weightedClusters": {"clusters": [{"typedPerFilterConfig": RBAC_OFF}]}}},
        {"typed_per_filter_config": None},
        {"decorator": {"propagate": None}},
        {"match": {"prefix": "/"}},
        {"name": "m/other"},
        {"route": {"cluster": 7}},
        {"metadata": {"typed_filter_metadata": {"x": {"@type": "type.googleapis.com/os.path"}}}},
        {"metadata": {"typed_filter_metadata": {"x": {"@type": "type.googleapis.com/envoy.no.such.v3.Message"}}}},
        {"metadata": {"typed_filter_metadata": {"x": {"value": 1}}}},
        {"metadata": {"typed_filter_metadata": {"x": {"@type": {}}}}},
        {"metadata": []},
        {"route": None, "decorator": "x"},
    ],
)  # fmt: skip
def test_what_no_override_may_do(overrides: dict[str, Any]) -> None:
    with pytest.raises(CompileError):
        raw.apply(route(), overrides, ours=OURS)


def test_every_filter_of_the_chain_is_ours() -> None:
    assert "envoy.filters.http.rbac" in chain.NAMES
    assert {stage.name for stage in chain.STAGES} == chain.NAMES


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "169.254.1.1", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe",
        "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1", "::169.254.169.254", "fd00:ec2::254", "100.100.100.200",
        "168.63.129.16", "metadata.google.internal", "METADATA.google.internal.", "metadata", "2852039166",
        "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "169.16689662",
    ],
)  # fmt: skip
def test_addresses_of_nobody_s_upstream(host: str) -> None:
    assert unsafe(host)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "::1", "10.0.0.1", "localhost", "a.internal", "8.example.com", "x1", "2001:db8::1", "169.253.1.1"],
)
def test_addresses_of_upstreams(host: str) -> None:
    assert unsafe(host) is None


def closed(upstream: dict[str, Any], settings: Settings) -> list[tuple[str, tuple[str | int, ...]]]:
    document = {"version": 1, "upstreams": {"u": upstream}}
    return [(problem.code, problem.path) for problem in compile(decode(document), settings, {}, strict=True).problems]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"])
def test_the_plane_s_own_ports(host: str) -> None:
    settings = Settings(forbidden=(("127.0.0.1", 9001), ("db.internal", 5432)))
    endpoint = {"address": host, "port": 9001}
    upstream = {"type": "static", "endpoints": [endpoint]}
    assert closed(upstream, settings) == [("GW606", ("upstreams", "u", "endpoints", 0, "address"))]
    assert closed({"type": "static", "endpoints": [endpoint | {"port": 9002}]}, settings) == []
    assert closed(upstream, Settings(forbidden=settings.forbidden, unsafe_upstreams=True)) == []


def test_the_plane_s_own_names() -> None:
    settings = Settings(forbidden=(("0.0.0.0", 9001), ("db.internal", 5432)))
    for host, port in (("localhost", 9001), ("DB.internal.", 5432)):
        assert closed({"type": "dns", "host": host, "port": port}, settings) == [("GW606", ("upstreams", "u", "host"))]
    assert closed({"type": "dns", "host": "other.internal", "port": 5432}, settings) == []
