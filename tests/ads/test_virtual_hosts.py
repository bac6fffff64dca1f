"""Virtual hosts one by one (VHDS): names with a route table in them, aliases, and the real Envoy asking on demand.

The compiler makes none: scopes share a route table out, and work in both variants. What is here serves other compilers.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from envoy.config.core.v3.config_source_pb2 import ConfigSource
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.on_demand.v3.on_demand_pb2 import OnDemand
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse
from google.protobuf.message import Message

from tests.ads.dialogue import DeltaTalk, cluster, names, virtual_host
from tests.ads.real_envoy import Envoy, listener, running, says
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.ads.wire import delta_encoder
from xds_server.resources import CLUSTER, ROUTES, VIRTUAL_HOST, Resource, Snapshot

A = virtual_host("http/a", 0, "a.example", "www.a.example", "*.a.example")
A2 = virtual_host("http/a", 1, "a.example", "www.a.example")
B = virtual_host("http/b", 0, "b.example")


def test_s32_s46_the_aliases_are_the_hosts_that_it_has_in_full() -> None:
    assert Resource.of(A).aliases == ("http/a.example", "http/www.a.example")
    assert Resource.of(cluster("a/b")).aliases == ()


def test_s46_an_alias_is_as_good_as_the_name() -> None:
    t = DeltaTalk(A, B)
    (send,) = t.start(VIRTUAL_HOST, "http/a.example")
    assert (names(send), send.removed) == (["http/a"], ())
    (sent,) = DeltaDiscoveryResponse.FromString(delta_encoder()(send)).resources
    assert (sent.name, list(sent.aliases)) == ("http/a", ["http/a.example", "http/www.a.example"])
    assert t.ack(send) == []
    (changed,) = t.publish(A2, B)
    assert names(changed) == ["http/a"]
    t.ack(changed)
    (gone,) = t.publish(B)
    assert (names(gone), gone.removed) == ([], ("http/a",))
    assert t.ack(gone) == []


def test_s46_another_alias_of_what_is_held_is_answered() -> None:
    """Envoy holds a request until a response names the host that it asked for."""
    t = DeltaTalk(A, B)
    t.ack(t.start(VIRTUAL_HOST, "http/a.example")[0])
    (again,) = t.ask(VIRTUAL_HOST, "http/www.a.example")
    assert (names(again), again.removed) == (["http/a"], ())
    assert t.ack(again) == []
    assert t.in_sync(VIRTUAL_HOST)


def test_s46_under_the_wildcard_an_alias_is_answered_too() -> None:
    t = DeltaTalk(A, B)
    t.ack(t.start(VIRTUAL_HOST)[0])
    (answer,) = t.ask(VIRTUAL_HOST, "http/b.example")
    assert (names(answer), answer.removed) == (["http/b"], ())
    assert t.ack(answer) == []


def test_s46_s38_an_alias_that_nothing_has_is_told_and_comes_later() -> None:
    t = DeltaTalk(A)
    (send,) = t.start(VIRTUAL_HOST, "http/b.example")
    (nobody,) = DeltaDiscoveryResponse.FromString(delta_encoder()(send)).resources
    assert (nobody.name, list(nobody.aliases), nobody.HasField("resource")) == (
        "http/b.example",
        ["http/b.example"],
        False,
    )
    assert send.removed == ("http/b.example",)
    assert t.ack(send) == []
    assert t.in_sync(VIRTUAL_HOST)
    (later,) = t.publish(A, B)
    assert (names(later), later.removed) == (["http/b"], ())


def test_s46_s40_the_last_alias_given_up_frees_the_resource() -> None:
    t = DeltaTalk(A, B)
    t.ack(t.start(VIRTUAL_HOST, "http/a.example", "http/www.a.example")[0])
    assert t.ask(VIRTUAL_HOST, unsubscribe=("http/a.example",)) == []
    (changed,) = t.publish(A2, B)
    assert names(changed) == ["http/a"]
    t.ack(changed)
    assert t.ask(VIRTUAL_HOST, unsubscribe=("http/www.a.example",)) == []
    assert t.publish(A, B) == []
    (afresh,) = t.ask(VIRTUAL_HOST, "http/a.example")
    assert names(afresh) == ["http/a"]


def test_s46_s10_what_was_refused_under_an_alias_is_not_sent_again_as_it_is() -> None:
    t = DeltaTalk(A, B)
    (send,) = t.start(VIRTUAL_HOST, "http/a.example")
    assert t.nack(send) == []
    assert t.publish(A, virtual_host("http/b", 1, "b.example")) == []
    (better,) = t.publish(A2, B)
    assert names(better) == ["http/a"]


def test_s44_an_empty_first_request_means_every_virtual_host() -> None:
    t = DeltaTalk(A, B)
    (send,) = t.start(VIRTUAL_HOST)
    assert names(send) == ["http/a", "http/b"]


def test_s48_a_virtual_host_stays_until_its_table_is_acknowledged() -> None:
    table = RouteConfiguration(name="http")
    t = DeltaTalk(cluster("c"), table, A)
    t.ack(t.start(CLUSTER)[0])
    t.ack(t.start(ROUTES, "http")[0])
    t.ack(t.start(VIRTUAL_HOST)[0])
    (routes,) = t.publish(cluster("c"), RouteConfiguration(name="http", ignore_port_in_host_matching=True))
    assert routes.type_url == ROUTES
    (gone,) = t.ack(routes)
    assert (gone.type_url, gone.removed) == (VIRTUAL_HOST, ("http/a",))


def host(name: str, text: str, *domains: str) -> VirtualHost:
    return VirtualHost(name=f"http/{name}", domains=domains, routes=[says(text)])


def over_vhds() -> RouteConfiguration:
    table = RouteConfiguration(name="http")
    source: ConfigSource = table.vhds.config_source
    source.ads.SetInParent()
    source.resource_api_version = 2  # V3
    return table


def on_demand() -> Listener:
    message = listener()
    config = message.filter_chains[0].filters[0].typed_config
    manager = HttpConnectionManager()
    config.Unpack(manager)
    manager.http_filters.add(name="on_demand").typed_config.Pack(OnDemand())
    manager.http_filters.reverse()
    config.Pack(manager)
    return message


@asynccontextmanager
async def plane(folder: Path, first: Listener, *hosts: Message) -> AsyncIterator[tuple[Hub, Envoy]]:
    hub = Hub()
    hub.publish(Snapshot.of(1, [first, over_vhds(), *hosts]))
    server = await start(hub, "127.0.0.1:0")
    try:
        async with running("delta", server.port, folder) as envoy:
            yield hub, envoy
    finally:
        await server.stop(0)


async def ask(envoy: Envoy, host: str) -> httpx.Response:
    return await envoy.http.get(f"http://127.0.0.1:{await envoy.port('http')}/", headers={"host": host})


async def sees(envoy: Envoy, host: str, status: int, text: str = "") -> None:
    async with asyncio.timeout(15):
        while True:
            with suppress(httpx.ConnectError):
                answer = await ask(envoy, host)
                if (answer.status_code, answer.text) == (status, text):
                    return
            await asyncio.sleep(0.02)


async def test_s46_virtual_hosts_come_change_and_go_without_their_table(tmp_path: Path) -> None:
    a, b, b2 = host("a", "one", "a.example"), host("b", "two", "b.example"), host("b", "three", "b.example")
    async with plane(tmp_path, listener(), a) as (hub, envoy):
        await sees(envoy, "a.example", 200, "one")
        await sees(envoy, "b.example", 404)
        (row,) = hub.board.rows
        table = row.types[ROUTES].sent_at
        hub.publish(Snapshot.of(2, [listener(), over_vhds(), a, b]))
        await sees(envoy, "b.example", 200, "two")
        hub.publish(Snapshot.of(3, [listener(), over_vhds(), a, b2]))
        await sees(envoy, "b.example", 200, "three")
        last = Snapshot.of(4, [listener(), over_vhds(), b2])
        hub.publish(last)
        await sees(envoy, "a.example", 404)
        assert (await ask(envoy, "b.example")).text == "three"
        assert await hub.converged(last, 10) == ()
        assert hub.board.rows[0].types[ROUTES].sent_at == table


@pytest.mark.parametrize(("name", "status"), [("www.a.example", 200), ("nobody.example", 404)])
async def test_s46_envoy_asks_on_demand_for_a_host(tmp_path: Path, name: str, status: int) -> None:
    """The request that waits is answered in both cases: with the new host, and with 404 for one that nobody has."""
    async with plane(tmp_path, on_demand(), host("a", "one", "a.example")) as (hub, envoy):
        await sees(envoy, "a.example", 200, "one")
        waiting = asyncio.create_task(ask(envoy, name))
        if status == 200:
            more = host("a", "one", "a.example", "www.a.example")
            hub.publish(Snapshot.of(2, [on_demand(), over_vhds(), more]))
        async with asyncio.timeout(10):
            assert (await waiting).status_code == status
