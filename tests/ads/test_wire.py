"""Shared encodes: equal to messages built in the ordinary way, made once, bounded."""

import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse, DiscoveryResponse
from envoy.service.discovery.v3.discovery_pb2 import Resource as ResourceMessage
from google.protobuf.any_pb2 import Any

from tests.ads.dialogue import MAKERS, cluster, routes
from xds_server.ads import wire
from xds_server.ads.events import Send
from xds_server.resources import CLUSTER, NAME_FIELD, ROUTES, Resource, Snapshot


def send(nonce: str, *messages: object, type_url: str = ROUTES, removed: tuple[str, ...] = ()) -> Send:
    types = Snapshot.of(1, messages).types[type_url]  # type: ignore[arg-type]
    return Send(type_url, nonce, types.version, tuple(types.resources.values()), removed)


def test_a_sotw_response_parses_equal_to_one_built_as_a_whole() -> None:
    s = send("n-1", routes("a"), routes("b", 7))
    built = DiscoveryResponse(version_info=s.version, type_url=ROUTES, nonce="n-1")
    for message in (routes("a"), routes("b", 7)):
        built.resources.add().Pack(message)
    assert DiscoveryResponse.FromString(wire.sotw_encoder()(s)) == built


def test_a_delta_response_parses_equal_to_one_built_as_a_whole() -> None:
    s = send("n-2", cluster("a"), type_url=CLUSTER, removed=("gone", "lost"))
    payload = Any()
    payload.Pack(cluster("a"))
    built = DeltaDiscoveryResponse(
        system_version_info=s.version,
        type_url=CLUSTER,
        nonce="n-2",
        removed_resources=["gone", "lost"],
        resources=[ResourceMessage(name="a", version=Resource.of(cluster("a")).version, resource=payload)],
    )
    assert DeltaDiscoveryResponse.FromString(wire.delta_encoder()(s)) == built


@pytest.mark.parametrize("encoder", [wire.sotw_encoder, wire.delta_encoder])
def test_one_content_is_serialised_once_for_all_streams(encoder: type[wire.Encoder]) -> None:
    encode = encoder()  # type: ignore[call-arg]
    parts = [encode(send(f"s{i}-1", routes("a"))) for i in range(50)]
    assert encode.encoded == 1
    assert len(set(parts)) == 50


@pytest.mark.parametrize("type_url", list(MAKERS))
def test_s32_the_name_in_a_response_is_the_resources_own(type_url: str) -> None:
    s = send("n", MAKERS[type_url]("own/name"), type_url=type_url)
    (resource,) = DeltaDiscoveryResponse.FromString(wire.delta_encoder()(s)).resources
    assert resource.name == "own/name"
    message = MAKERS[type_url]("")
    assert resource.resource.Unpack(message)
    assert getattr(message, NAME_FIELD.get(type_url, "name")) == "own/name"


def test_names_contents_and_removals_are_told_apart() -> None:
    encode = wire.delta_encoder()
    whole = send("n", routes("a"), routes("b"))
    sends = [
        whole,
        Send(ROUTES, "n", whole.version, whole.resources[:1]),
        Send(ROUTES, "n", whole.version, whole.resources[:1], ("b",)),
        send("n", routes("a"), routes("b", 1)),
    ]
    assert len({encode(s) for s in sends}) == encode.encoded == 4


def test_the_cache_is_bounded_in_number_and_in_bytes() -> None:
    few = wire.Encoder(lambda s: s.version.encode(), str.encode, entries=2)
    for edition in (0, 1, 2, 2, 0):
        few(send("n", routes("a", edition)))
    assert few.encoded == 4
    small = wire.Encoder(lambda s: b"x" * 60, str.encode, size=100)
    for edition in (0, 1, 0, 0):
        small(send("n", routes("a", edition)))
    assert small.encoded == 3
