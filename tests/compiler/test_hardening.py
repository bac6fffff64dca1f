"""Hardening cannot be forgotten: every compiled message of every golden case is walked for every field it must have."""

from collections.abc import Iterator
from typing import Any

import pytest
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBACPerRoute
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from google.protobuf.message import Message

from gateway.model import Gateway, ListenerLimits, ListenerTimeouts
from xds_server.compiler import names
from xds_server.compiler.tables.entries import Entry
from xds_server.compiler.tables.reading import leaves_of, listed, routes_of

from .golden import NAMES, compiled, gateway
from .hardened import faults, wrong
from .hardened_fields import HTTP3, LISTENER, MANAGER, QUIC, TABLES
from .walking import walk


def adjusted(found: Gateway) -> set[str]:
    """The listeners that set limits of their own, with their UDP side."""
    own = {
        name
        for name, spec in found.listeners.items()
        if (spec.timeouts, spec.limits, spec.escaped_slashes) != (ListenerTimeouts(), ListenerLimits(), "reject")
    }
    return own | {names.quic_listener(name) for name in own}


@pytest.mark.parametrize("name", NAMES)
def test_every_message(name: str) -> None:
    assert faults(compiled(name).messages, adjusted(gateway(name))) == []


@pytest.mark.parametrize("name", NAMES)
def test_no_list_of_routes_has_an_open_end(name: str) -> None:
    for table in (m for m in compiled(name).messages if isinstance(m, RouteConfiguration)):
        for host in table.virtual_hosts:
            lists = [listed(leaf) for leaf in leaves_of(host.matcher)] if host.HasField("matcher") else [host.routes]
            for routes in lists:
                last = routes[-1]
                answers = last.match.prefix == "/" and (last.direct_response.status == 404 or last.HasField("redirect"))
                assert answers or any(Entry.of(route).always for route in routes), "its end may be reached"
            for route in routes_of(host):
                unpacked = RBACPerRoute()
                assert route.typed_per_filter_config["envoy.filters.http.rbac"].Unpack(unpacked), route.name


def kinds() -> dict[type[Message], Message]:
    """One message of each kind that has a table, from whichever case has it."""
    found: dict[type[Message], Message] = {}
    for name in ("listener-tls", "upstreams", "native-jwt", "decided"):
        for message in compiled(name).messages:
            for _, inner in walk(message):
                found.setdefault(type(inner), inner)
    return found


def of_quic(kind: type[Message]) -> Any:
    """A listener or a connection manager for HTTP/3."""
    (listener,) = (
        m for m in compiled("listener-tls").messages if isinstance(m, Listener) and m.name.endswith("/http3")
    )
    return next(inner for _, inner in walk(listener) if isinstance(inner, kind))


def rows() -> Iterator[tuple[str, type[Message], str]]:
    """Every row of every table that is about more than a field's default."""
    tables = {**TABLES, HttpConnectionManager: {**MANAGER, **HTTP3}, Listener: {**LISTENER, **QUIC}}
    for kind, table in tables.items():
        for path, wanted in table.items():
            if wanted is not None and wanted is not False:
                yield f"{kind.DESCRIPTOR.name}.{path}", kind, path


@pytest.mark.parametrize(("kind", "path"), [pytest.param(k, p, id=name) for name, k, p in rows()])
def test_a_field_that_is_forgotten_is_found(kind: type[Message], path: str) -> None:
    """Each row is taken out of a message that has it."""
    quic = path.startswith(("http3_", "udp_"))
    source = of_quic(kind) if quic else kinds()[kind]
    table = (
        {**MANAGER, **HTTP3} if kind is HttpConnectionManager else {**TABLES.get(kind, {}), **(QUIC if quic else {})}
    )
    message: Any = kind()
    message.CopyFrom(source)
    *parents, last = path.split(".")
    holder = message
    for parent in parents:
        holder = getattr(holder, parent)
    holder.ClearField(last)
    assert path in dict(wrong(message, table))
