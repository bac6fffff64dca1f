"""Resources that a client forgets unless it is told that they stand (statements 53 to 55)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from envoy.service.discovery.v3.discovery_pb2 import Resource as ResourceMessage
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from tests.ads import real_envoy
from tests.ads.dialogue import cluster, names, routes, runtime
from tests.ads.real_envoy import says
from tests.ads.simulated import Kind
from xds_server.ads.delta import DeltaStream
from xds_server.ads.events import Acked, Event, Send
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.ads.sotw import SotwStream
from xds_server.ads.wire import delta_encoder, sotw_encoder
from xds_server.resources import CLUSTER, ROUTES, RUNTIME, VIRTUAL_HOST, Resource, Snapshot

TTL, IN_SOTW = "xds.config.supports-resource-ttl", "xds.config.resource-in-sotw"
both = pytest.mark.parametrize("kind", ["sotw", "delta"])


def mortal(seconds: float, *messages: Message, revision: int = 1) -> Snapshot:
    return Snapshot.of(revision, messages, lambda message: Resource.of(message, seconds))


class Talk:
    """A client that knows of lives; the clock stands until it is moved."""

    def __init__(self, kind: Kind, *features: str) -> None:
        self.kind, self.features, self.now = kind, features, 100.0
        self.machine: Any = SotwStream("s-") if kind == "sotw" else DeltaStream("d-")
        self.heard: list[Event] = []
        self.asked: dict[str, tuple[str, ...]] = {}

    def ask(self, snapshot: Snapshot, type_url: str, *names: str, nonce: str = "", error: str = "") -> list[Send]:
        node = Node(id="n", client_features=self.features)
        said: dict[str, Any] = {"node": node, "type_url": type_url, "response_nonce": nonce}
        if error:
            said["error_detail"] = Status(message=error)
        self.asked.setdefault(type_url, names)
        if self.kind == "sotw":
            request: Any = DiscoveryRequest(resource_names=self.asked[type_url], **said)
        else:
            request = DeltaDiscoveryRequest(resource_names_subscribe=names, **said)
        self.heard += self.machine.receive(request)
        return self.at(snapshot, 0)

    def ack(self, snapshot: Snapshot, send: Send, error: str = "") -> list[Send]:
        return self.ask(snapshot, send.type_url, nonce=send.nonce, error=error)

    def at(self, snapshot: Snapshot, later: float) -> list[Send]:
        self.now += later
        self.machine.tick(self.now)
        sends = []
        while send := self.machine.next(snapshot):
            sends.append(send)
        return sends

    def sent(self, send: Send) -> list[ResourceMessage]:
        """As the client reads it; what is not wrapped has no life."""
        if self.kind == "delta":
            return list(DeltaDiscoveryResponse.FromString(delta_encoder()(send)).resources)
        found = []
        for entry in DiscoveryResponse.FromString(sotw_encoder()(send)).resources:
            message = ResourceMessage()
            if not entry.Unpack(message):
                message.resource.CopyFrom(entry)
            found.append(message)
        return found


def talk(kind: Kind) -> Talk:
    return Talk(kind, TTL, IN_SOTW)


@pytest.mark.parametrize(
    ("kind", "features", "told"),
    [
        ("delta", (TTL,), True),
        ("delta", (), False),
        ("delta", (IN_SOTW,), False),
        ("sotw", (TTL, IN_SOTW), True),
        ("sotw", (TTL, "xds.config.supports-resource-in-sotw"), True),
        ("sotw", (TTL,), False),
    ],
)
def test_s53_a_life_is_told_to_who_understands_it(kind: Kind, features: tuple[str, ...], told: bool) -> None:
    t, snapshot = Talk(kind, *features), mortal(10, routes("a"))
    (send,) = t.ask(snapshot, ROUTES, "a")
    (resource,) = t.sent(send)
    assert (resource.ttl.ToMilliseconds(), resource.HasField("resource")) == (10_000 if told else 0, True)
    t.ack(snapshot, send)
    assert (t.machine.tick(t.now) is not None) == told
    assert bool(t.at(snapshot, 9)) == told


@both
def test_s54_a_heartbeat_has_the_version_and_in_delta_no_content(kind: Kind) -> None:
    t, snapshot = talk(kind), mortal(10, runtime("a"), runtime("b"))
    (send,) = t.ask(snapshot, RUNTIME, "a", "b")
    versions = {resource.name: resource.version for resource in t.sent(send)}
    assert t.ack(snapshot, send) == []
    assert t.machine.tick(t.now) == t.now + 5
    assert t.at(snapshot, 4.9) == []
    (beat,) = t.at(snapshot, 0.1)
    assert beat.nonce != send.nonce
    assert beat.version == send.version
    for resource in t.sent(beat):
        assert resource.HasField("resource") == (kind == "sotw"), "Envoy wants to hear it all in SotW"
        assert (resource.version, resource.ttl.seconds) == (versions[resource.name], 10)
    assert t.machine.tick(t.now) is None, "one response is outstanding at a time"
    assert t.ack(snapshot, beat) == []
    assert t.machine.tick(t.now) == t.now + 5


@both
def test_s54_a_heartbeat_counts_as_no_update(kind: Kind) -> None:
    t, snapshot = talk(kind), mortal(10, runtime("a"))
    t.ack(snapshot, t.ask(snapshot, RUNTIME, "a")[0])
    heard = list(t.heard)
    (beat,) = t.at(snapshot, 6)
    assert t.machine.in_sync(snapshot) == {RUNTIME: True}
    t.ack(snapshot, beat)
    assert t.heard == heard == [Acked(RUNTIME, snapshot.types[RUNTIME].version, heard[0].nonce)]  # type: ignore[union-attr]


@both
def test_s54_a_change_takes_the_heartbeats_place(kind: Kind) -> None:
    t, snapshot = talk(kind), mortal(10, runtime("a"))
    t.ack(snapshot, t.ask(snapshot, RUNTIME, "a")[0])
    changed = mortal(10, runtime("a", 1), revision=2)
    (send,) = t.at(changed, 6)
    assert not send.heartbeat
    assert t.ack(changed, send) == []
    assert t.machine.tick(t.now) == t.now + 5


@both
def test_s54_a_refused_heartbeat_brings_the_content_again(kind: Kind) -> None:
    """Envoy refuses one that came too late: it has nothing of that name any more."""
    t, snapshot = talk(kind), mortal(10, runtime("a"))
    t.ack(snapshot, t.ask(snapshot, RUNTIME, "a")[0])
    (beat,) = t.at(snapshot, 60)
    (again,) = t.ack(snapshot, beat, error="what is this?")
    assert not again.heartbeat
    assert t.sent(again)[0].HasField("resource")
    assert t.ack(snapshot, again) == []


def test_s54_nothing_reminds_a_client_of_what_it_gave_up() -> None:
    t, snapshot = talk("delta"), mortal(10, runtime("a"))
    t.ack(snapshot, t.ask(snapshot, RUNTIME, "a")[0])
    t.machine.receive(DeltaDiscoveryRequest(type_url=RUNTIME, resource_names_unsubscribe=["a"]))
    assert t.at(snapshot, 60) == []
    assert t.machine.tick(t.now) is None


def test_s54_s29_a_full_set_repeats_its_contents() -> None:
    t = talk("sotw")
    lives = {"a": 10.0, "b": 0.0}
    messages = [cluster("a"), cluster("b")]
    snapshot = Snapshot.of(1, messages, lambda m: Resource.of(m, lives[m.name]))  # type: ignore[attr-defined]
    t.ack(snapshot, t.ask(snapshot, CLUSTER)[0])
    (beat,) = t.at(snapshot, 5)
    assert (beat.heartbeat, names(beat)) == (True, ["a", "b"])
    assert all(resource.HasField("resource") for resource in t.sent(beat))


def test_s53_virtual_hosts_are_told_no_life() -> None:
    """Envoy takes a virtual host without content for one that does not exist."""
    t, snapshot = talk("delta"), mortal(10, real_envoy.routes(says("x")).virtual_hosts[0])
    t.ack(snapshot, t.ask(snapshot, VIRTUAL_HOST)[0])
    assert t.at(snapshot, 60) == []


@both
def test_s55_sent_again_without_a_life_it_stays(kind: Kind) -> None:
    t, snapshot = talk(kind), mortal(10, runtime("a"))
    t.ack(snapshot, t.ask(snapshot, RUNTIME, "a")[0])
    for_ever = mortal(0, runtime("a"), revision=2)
    (send,) = t.at(for_ever, 1)
    (resource,) = t.sent(send)
    assert (resource.HasField("ttl"), resource.HasField("resource")) == (False, True)
    assert t.ack(for_ever, send) == []
    assert t.machine.tick(t.now) is None
    assert t.at(for_ever, 60) == []


@both
async def test_s54_on_envoy_a_runtime_lives_as_long_as_its_heartbeats(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer that lives for a second outlives it by heartbeats; when the server is gone it goes as well."""
    made = real_envoy.bootstrap

    def knowing(kind: Kind, port: int) -> dict[str, Any]:
        layer = {"name": "mortal", "rtds_config": {"ads": {}, "resource_api_version": "V3"}}
        runtime = {"layers": [{"name": "mortal", "rtds_layer": layer}]}
        return {**made(kind, port), "layered_runtime": runtime, "node": {**NODE, "client_features": [TTL, IN_SOTW]}}

    monkeypatch.setattr(real_envoy, "bootstrap", knowing)
    hub, snapshot = Hub(), mortal(1, runtime("mortal"))
    hub.publish(snapshot)
    server = await start(hub, "127.0.0.1:0")
    try:
        async with real_envoy.running(kind, server.port, tmp_path) as envoy:
            await layers(envoy, "0")
            sent = hub.board.rows[0].types[RUNTIME].sent_at
            for _ in range(25):
                assert await value(envoy) == "0"
                await asyncio.sleep(0.1)
            (row,) = hub.board.rows
            assert (row.types[RUNTIME].sent_at, row.types[RUNTIME].last_nack) == (sent, None)
            assert row.synced(snapshot)
            await server.stop(0)
            await layers(envoy, None)
    finally:
        await server.stop(0)


NODE = {"id": "envoy-1", "cluster": "edge"}


async def value(envoy: real_envoy.Envoy) -> str | None:
    entries = (await envoy.http.get(f"{envoy.admin}/runtime")).json()["entries"]
    return entries["key"]["final_value"] if "key" in entries else None


async def layers(envoy: real_envoy.Envoy, expected: str | None) -> None:
    async with asyncio.timeout(15):
        while await value(envoy) != expected:  # noqa: ASYNC110 - Envoy tells nobody
            await asyncio.sleep(0.05)
