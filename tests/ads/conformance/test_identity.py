"""Stream and identity, statements 1 to 6: who speaks, of which type, and what marks a response."""

import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest

from tests.ads.conformance.variants import Talks, both, sotw
from tests.ads.dialogue import NODE, cluster, listener, names, routes
from xds_server.ads.delta import DeltaStream
from xds_server.ads.events import Reject
from xds_server.ads.sotw import SotwStream
from xds_server.ads.stream import Limits
from xds_server.resources import CLUSTER, LISTENER, ROUTES, SECRET

UNKNOWN = "type.googleapis.com/some.Thing"

me = Node(id=NODE)


@both
def test_s01_a_stream_that_begins_without_a_node_ends(talk: Talks) -> None:
    t = talk(routes("r"))
    t.say(t.request_type(type_url=ROUTES))
    assert t.end() == Reject("INVALID_ARGUMENT", "the first request of a stream must carry node.id")


@both
def test_s01_the_node_may_be_omitted_later(talk: Talks) -> None:
    t = talk(routes("r"), cluster("c"))
    t.say(t.request_type(node=me, type_url=ROUTES))
    t.say(t.request_type(type_url=CLUSTER))
    assert sorted(send.type_url for send in t.drain()) == [CLUSTER, ROUTES]


@both
@pytest.mark.parametrize("field", ["id", "cluster"])
def test_a_node_with_an_endless_name_is_refused(talk: Talks, field: str) -> None:
    t = talk(routes("r"))
    t.say(t.request_type(node=Node(**{"id": NODE, field: "x" * 1025}), type_url=ROUTES))
    assert t.end() == Reject("INVALID_ARGUMENT", "node.id and node.cluster may have 1024 characters")


@both
def test_s01_a_changed_node_id_ends_the_stream(talk: Talks) -> None:
    t = talk(routes("r"))
    t.say(t.request_type(node=me, type_url=ROUTES))
    t.say(t.request_type(node=me, type_url=CLUSTER))
    assert len(t.drain()) == 2
    t.say(t.request_type(node=Node(id="somebody-else"), type_url=ROUTES))
    assert t.end() == Reject("INVALID_ARGUMENT", "node.id changed within a stream")


@both
def test_s02_an_aggregated_stream_needs_type_urls(talk: Talks) -> None:
    t = talk(routes("r"))
    t.say(t.request_type(node=me))
    assert t.end() == Reject("INVALID_ARGUMENT", "type_url is required on an aggregated stream")


@both
def test_s02_a_typed_service_implies_its_type(talk: Talks) -> None:
    t = talk(routes("r"), implied=ROUTES)
    t.say(t.request_type(node=me))
    assert t.heard == []


@both
def test_s02_a_typed_service_refuses_other_types(talk: Talks) -> None:
    t = talk(routes("r"), implied=ROUTES)
    t.say(t.request_type(node=me, type_url=CLUSTER))
    assert t.end() == Reject("INVALID_ARGUMENT", f"this service serves {ROUTES} only")


@both
def test_s03_types_do_not_wait_for_each_other(talk: Talks) -> None:
    t = talk(cluster("c"), routes("r"))
    (clusters,) = t.start(CLUSTER)
    (first,) = t.start(ROUTES, "r")  # CDS is not acknowledged
    assert first.type_url == ROUTES
    assert t.ack(first) == []
    assert t.in_sync(ROUTES)
    assert not t.in_sync(CLUSTER)
    assert clusters.nonce != first.nonce


@both
def test_s05_unknown_types_leave_the_stream_alone(talk: Talks) -> None:
    t = talk(routes("r"))
    assert t.start("type.googleapis.com/some.Thing", "x") == []
    (send,) = t.start(ROUTES, "r")
    assert names(send) == ["r"]
    assert t.heard == []


@both
def test_s06_nonce_type_and_version_are_set_and_nonces_are_unique(talk: Talks) -> None:
    t = talk(cluster("c"), listener("l"))
    sends = [*t.start(CLUSTER), *t.start(LISTENER)]
    sends += t.ack(sends[0]) + t.publish(cluster("c", 1), listener("l"))
    assert len(sends) == 3
    assert len({send.nonce for send in sends}) == 3
    assert all(send.nonce and send.version and send.type_url for send in sends)


@sotw
def test_s04_a_first_request_with_an_old_nonce_and_version_is_answered(talk: Talks) -> None:
    t = talk(routes("a"))
    version = t.snapshot.types[ROUTES].version
    (send,) = t.ask(ROUTES, "a", nonce="another-stream-7", version=version)
    assert names(send) == ["a"]
    assert t.heard == []


@sotw
def test_s04_a_second_request_before_any_response_still_counts(talk: Talks) -> None:
    t = talk()
    assert t.ask(ROUTES, "a", nonce="old-1") == []
    assert t.ask(ROUTES, "a", "b", nonce="old-1") == []
    (send,) = t.publish(routes("a"), routes("b"))
    assert names(send) == ["a", "b"]


@pytest.mark.parametrize(
    ("stream", "request_type", "field"),
    [
        (SotwStream, DiscoveryRequest, "resource_names"),
        (DeltaStream, DeltaDiscoveryRequest, "resource_names_subscribe"),
    ],
    ids=["sotw", "delta"],
)
def test_limits_on_names_and_types(stream: type[SotwStream], request_type: type[DiscoveryRequest], field: str) -> None:
    machine = stream(limits=Limits(names=3, types=2))
    node = Node(id="n")
    assert machine.receive(request_type(node=node, type_url=ROUTES, **{field: ["a", "b", "c"]})) == ()
    (event,) = machine.receive(request_type(type_url=ROUTES, **{field: ["a", "b", "c", "d"]}))
    assert isinstance(event, Reject)
    assert event.code == "RESOURCE_EXHAUSTED"
    assert machine.receive(request_type(type_url=SECRET, **{field: ["a"]})) == ()
    (event,) = machine.receive(request_type(type_url=CLUSTER))
    assert isinstance(event, Reject)
    assert event.code == "RESOURCE_EXHAUSTED"
