"""Statements that hold alike in both variants, as dialogues. Each test carries its statement's number."""

import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest

from tests.ads.dialogue import (
    MAKERS,
    DeltaTalk,
    SotwTalk,
    Talk,
    cluster,
    endpoints,
    extension,
    listener,
    names,
    routes,
    secret,
)
from xds_server.ads.delta import DeltaStream
from xds_server.ads.events import Acked, Nacked, Reject
from xds_server.ads.sotw import SotwStream
from xds_server.ads.stream import Limits
from xds_server.resources import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    PUSH_ORDER,
    RATE_LIMITS,
    ROUTES,
    RUNTIME,
    SCOPED_ROUTES,
    SECRET,
    VIRTUAL_HOST,
    Snapshot,
)

both = pytest.mark.parametrize("talk", [SotwTalk, DeltaTalk], ids=["sotw", "delta"])
variants = pytest.mark.parametrize(
    ("stream", "request_type"),
    [(SotwStream, DiscoveryRequest), (DeltaStream, DeltaDiscoveryRequest)],
    ids=["sotw", "delta"],
)

Kind = type[SotwTalk] | type[DeltaTalk]
Stream = type[SotwStream] | type[DeltaStream]
Request = type[DiscoveryRequest] | type[DeltaDiscoveryRequest]


@variants
def test_s01_node_comes_first_and_may_be_omitted_later(stream: Stream, request_type: Request) -> None:
    machine = stream()
    assert isinstance(machine.receive(request_type(type_url=ROUTES))[0], Reject)
    machine = stream()
    assert machine.receive(request_type(node=Node(id="n"), type_url=ROUTES)) == ()
    assert machine.receive(request_type(type_url=CLUSTER)) == ()
    assert machine.node is not None
    assert machine.node.id == "n"


@variants
def test_s01_a_changed_node_id_ends_the_stream(stream: Stream, request_type: Request) -> None:
    machine = stream()
    machine.receive(request_type(node=Node(id="n"), type_url=ROUTES))
    assert machine.receive(request_type(node=Node(id="n"), type_url=ROUTES)) == ()
    (event,) = machine.receive(request_type(node=Node(id="m"), type_url=ROUTES))
    assert event == Reject("INVALID_ARGUMENT", "node.id changed within a stream")


@variants
def test_s02_an_aggregated_stream_needs_type_urls(stream: Stream, request_type: Request) -> None:
    (event,) = stream().receive(request_type(node=Node(id="n")))
    assert isinstance(event, Reject)
    assert event.code == "INVALID_ARGUMENT"


@variants
def test_s02_a_typed_service_implies_its_type(stream: Stream, request_type: Request) -> None:
    machine = stream("", ROUTES)
    assert machine.receive(request_type(node=Node(id="n"))) == ()
    send = machine.next(Snapshot.of(1, [routes("r")]))
    assert send is not None
    assert send.type_url == ROUTES
    assert isinstance(machine.receive(request_type(type_url=CLUSTER))[0], Reject)


@both
def test_s03_types_do_not_wait_for_each_other(talk: Kind) -> None:
    t = talk(cluster("c"), routes("r"))
    (clusters,) = t.start(CLUSTER)
    (first,) = t.start(ROUTES, "r")  # CDS is not acknowledged
    assert first.type_url == ROUTES
    assert t.ack(first) == []
    assert t.in_sync(ROUTES)
    assert not t.in_sync(CLUSTER)
    assert clusters.nonce != first.nonce


@both
def test_s05_unknown_types_leave_the_stream_alone(talk: Kind) -> None:
    t = talk(routes("r"))
    assert t.start("type.googleapis.com/some.Thing", "x") == []
    (send,) = t.start(ROUTES, "r")
    assert names(send) == ["r"]
    assert t.heard == []


@both
def test_s06_nonce_type_and_version_are_set_and_nonces_are_unique(talk: Kind) -> None:
    t = talk(cluster("c"), listener("l"))
    sends = [*t.start(CLUSTER), *t.start(LISTENER)]
    sends += t.ack(sends[0]) + t.publish(cluster("c", 1), listener("l"))
    assert len(sends) == 3
    assert len({send.nonce for send in sends}) == 3
    assert all(send.nonce and send.version and send.type_url for send in sends)


@both
def test_s07_s11_ack_and_nack_are_told_with_all_that_is_known(talk: Kind) -> None:
    t = talk(routes("a"), routes("b"))
    (send,) = t.start(ROUTES, "a", "b")
    t.ack(send)
    (changed,) = t.publish(routes("a", 1), routes("b"))
    t.nack(changed, "bad regex")
    assert t.heard == [
        Acked(ROUTES, send.version, send.nonce),
        Nacked(ROUTES, changed.version, changed.nonce, "bad regex", ("a",)),
    ]


@both
def test_s09_a_version_says_nothing_about_acceptance(talk: Kind) -> None:
    t = talk(routes("a"))
    (send,) = t.start(ROUTES, "a")
    if isinstance(t, SotwTalk):
        t.ask(ROUTES, "a", nonce=send.nonce, version="some older version")
    else:
        t.ack(send)
    assert t.heard == [Acked(ROUTES, send.version, send.nonce)]


@both
@pytest.mark.parametrize("type_url", PUSH_ORDER)
def test_s10_s13_a_refused_version_is_parked_until_content_changes(talk: Kind, type_url: str) -> None:
    make = MAKERS[type_url]
    t = talk(make("a"))
    (send,) = t.start(type_url, "a")
    assert t.nack(send) == []
    assert t.drain() == []
    assert t.publish(make("a")) == []
    assert not t.in_sync(type_url)
    (fixed,) = t.publish(make("a", 1))
    assert names(fixed) == ["a"]
    assert t.ack(fixed) == []
    assert t.in_sync(type_url)


@both
def test_s10_going_back_to_what_was_accepted_is_sent_because_a_nack_is_not_atomic(talk: Kind) -> None:
    t = talk(routes("a"))
    t.ack(t.start(ROUTES, "a")[0])
    (bad,) = t.publish(routes("a", 1))
    t.nack(bad)
    (good,) = t.publish(routes("a"))
    assert names(good) == ["a"]
    t.ack(good)
    assert t.in_sync(ROUTES)


@both
def test_s10_a_refused_resource_does_not_spoil_the_others_way(talk: Kind) -> None:
    t = talk(routes("bad"), routes("good"))
    (send,) = t.start(ROUTES, "bad", "good")
    assert t.nack(send) == []
    (other,) = t.publish(routes("bad"), routes("good", 1))
    assert names(other) == ["good"]
    (again,) = t.ack(other)  # part of the refusal has changed: the rest of it is tried once more, alone
    assert names(again) == ["bad"]
    assert t.nack(again) == []
    assert t.publish(routes("bad"), routes("good", 1)) == []


@both
def test_s10_what_a_refusal_blocked_goes_out_with_the_fix(talk: Kind) -> None:
    t = talk(routes("bad"), routes("good"))
    t.nack(t.start(ROUTES, "bad", "good")[0])
    (fix,) = t.publish(routes("bad", 1), routes("good"))
    (rest,) = t.ack(fix)
    assert sorted(names(fix) + names(rest)) == ["bad", "good"]
    assert t.ack(rest) == []
    assert t.in_sync(ROUTES)


@both
def test_s12_a_nack_that_changes_the_subscription_gets_the_new_names_only(talk: Kind) -> None:
    t = talk(routes("a"), routes("b"))
    (send,) = t.start(ROUTES, "a")
    (answer,) = t.nack(send, wanted=("a", "b"), added=("b",))
    assert names(answer) == ["b"]
    assert t.ack(answer) == []
    assert not t.in_sync(ROUTES)


@both
@pytest.mark.parametrize("type_url", PUSH_ORDER)
def test_s14_s15_unchanged_content_is_not_sent_again(talk: Kind, type_url: str) -> None:
    make = MAKERS[type_url]
    t = talk(make("a"), make("b"))
    (send,) = t.start(type_url, "a")
    assert t.ack(send) == []
    assert t.ack(send) == []
    assert t.publish(make("a"), make("b")) == []
    assert t.publish(make("a"), make("b", 1)) == []
    assert t.in_sync(type_url)


@both
def test_s16_s17_one_response_is_outstanding_and_the_newest_content_follows_it(talk: Kind) -> None:
    t = talk(routes("a"))
    (send,) = t.start(ROUTES, "a")
    assert t.publish(routes("a", 1)) == []
    assert t.publish(routes("a", 2)) == []
    (newest,) = t.ack(send)
    assert newest.resources == tuple(t.snapshot.types[ROUTES].resources.values())
    assert t.ack(newest) == []


@both
def test_s18_equal_content_makes_equal_responses_in_another_process(talk: Kind) -> None:
    content = [routes("b"), routes("a")]
    one, other = talk(*content), talk(*reversed(content))
    one.publish(*content)
    (a,), (b,) = one.start(ROUTES), other.start(ROUTES)
    assert (a.version, a.resources, a.removed) == (b.version, b.resources, b.removed)


@both
@pytest.mark.parametrize("type_url", PUSH_ORDER)
def test_s19_s34_what_is_asked_is_supplied_and_nothing_else(talk: Kind, type_url: str) -> None:
    make = MAKERS[type_url]
    t = talk(make("a"), make("b"), make("c"))
    (send,) = t.start(type_url, "a", "c")
    assert names(send) == ["a", "c"]


@both
def test_s27_unsubscribe_then_resubscribe_sends_again(talk: Kind) -> None:
    t = talk(routes("a"), routes("b"))
    t.ack(t.start(ROUTES, "a", "b")[0])
    if isinstance(t, SotwTalk):
        assert t.ask(ROUTES, "b") == []
        (send,) = t.ask(ROUTES, "a", "b")
    else:
        assert t.ask(ROUTES, unsubscribe=("a",)) == []
        (send,) = t.ask(ROUTES, "a")
    assert names(send) == ["a"]


def test_s31_a_snapshot_has_no_two_resources_of_one_name() -> None:
    with pytest.raises(ValueError, match="two resources are called 'a'"):
        Snapshot.of(1, [routes("a"), routes("a", 1)])


@both
@pytest.mark.parametrize("type_url", PUSH_ORDER)
def test_s33_a_name_asked_for_early_is_sent_when_it_appears(talk: Kind, type_url: str) -> None:
    make = MAKERS[type_url]
    t = talk()
    for send in t.start(type_url, "later"):
        assert send.resources == ()
        t.ack(send)
    (send,) = t.publish(make("later"))
    assert names(send) == ["later"]


def everything(t: Talk) -> None:
    """Subscribe to one of each type, in no sensible order, and acknowledge all."""
    for type_url in reversed(PUSH_ORDER):
        for send in t.start(type_url, *(() if type_url in (CLUSTER, LISTENER) else ("a",))):
            for more in t.ack(send):
                t.ack(more)
    assert all(t.machine.in_sync(t.snapshot).values())


@both
def test_s47_updates_go_out_in_make_before_break_order(talk: Kind) -> None:
    t = talk(*(make("a") for make in MAKERS.values()))
    everything(t)
    sends = t.publish(*(make("a", 1) for make in reversed(MAKERS.values())))
    assert [send.type_url for send in sends] == [RUNTIME, CLUSTER, ENDPOINTS, SECRET, RATE_LIMITS]
    rest = t.ack(sends[0])
    assert [send.type_url for send in rest] == [EXTENSION, LISTENER, SCOPED_ROUTES, ROUTES, VIRTUAL_HOST]


@both
def test_s48_removal_runs_the_other_way_and_waits_for_acks(talk: Kind) -> None:
    old = [cluster("a", eds=True), endpoints("a"), listener("l"), routes("a")]
    t = talk(*old, cluster("b", eds=True), endpoints("b"))
    t.ack(t.start(CLUSTER)[0])
    t.ack(t.start(ENDPOINTS, "a", "b")[0])
    t.ack(t.start(LISTENER)[0])
    t.ack(t.start(ROUTES, "a")[0])
    (moved,) = t.publish(*old[:3], routes("a", 1))
    assert moved.type_url == ROUTES  # nothing of b is taken away before the routes have left it
    (clusters, *more) = t.ack(moved)
    assert clusters.type_url == CLUSTER
    assert more == []
    if isinstance(t, SotwTalk):
        assert names(clusters) == ["a"]
        assert t.ack(clusters) == []
    else:
        assert clusters.removed == ("b",)
        (last,) = t.ack(clusters)
        assert (last.type_url, last.removed) == (ENDPOINTS, ("b",))


@both
def test_s48_a_swap_keeps_the_old_cluster_until_the_routes_have_moved(talk: Kind) -> None:
    t = talk(cluster("old"), routes("r"))
    t.ack(t.start(CLUSTER)[0])
    t.ack(t.start(ROUTES, "r")[0])
    (both_clusters,) = t.publish(cluster("new"), routes("r", 1))
    assert "new" in names(both_clusters)
    assert both_clusters.removed == ()
    if isinstance(t, SotwTalk):
        assert names(both_clusters) == ["new", "old"]
        assert both_clusters.version != t.snapshot.types[CLUSTER].version
    (moved,) = t.ack(both_clusters)
    assert moved.type_url == ROUTES
    (without,) = t.ack(moved)
    assert without.type_url == CLUSTER
    assert without.removed == (() if isinstance(t, SotwTalk) else ("old",))
    t.ack(without)
    assert all(t.machine.in_sync(t.snapshot).values())


@both
def test_s49_endpoints_of_a_changed_cluster_follow_it_even_if_unchanged(talk: Kind) -> None:
    content = [cluster("same", eds=True), endpoints("same"), endpoints("svc")]
    t = talk(*content, cluster("c", eds=True, service="svc"))
    t.ack(t.start(CLUSTER)[0])
    t.ack(t.start(ENDPOINTS, "same", "svc")[0])
    clusters, again = t.publish(*content, cluster("c", 1, eds=True, service="svc"))
    assert clusters.type_url == CLUSTER
    assert (again.type_url, names(again)) == (ENDPOINTS, ["svc"])
    t.ack(clusters)
    t.ack(again)
    assert t.drain() == []


@both
def test_s49_holds_when_endpoints_are_unacknowledged_at_that_moment(talk: Kind) -> None:
    t = talk(cluster("c", eds=True), endpoints("c"))
    t.ack(t.start(CLUSTER)[0])
    (early,) = t.start(ENDPOINTS, "c")
    (clusters,) = t.publish(cluster("c", 1, eds=True), endpoints("c"))
    assert clusters.type_url == CLUSTER
    (again,) = t.ack(early)
    assert (again.type_url, names(again)) == (ENDPOINTS, ["c"])


@both
def test_s50_endpoints_and_secrets_are_answered_without_an_ack_of_clusters(talk: Kind) -> None:
    t = talk(cluster("c", eds=True), endpoints("c"), secret("s"))
    (clusters,) = t.start(CLUSTER)
    assert names(clusters) == ["c"]
    assert [names(send) for send in t.start(ENDPOINTS, "c")] == [["c"]]
    assert [names(send) for send in t.start(SECRET, "s")] == [["s"]]


@both
def test_s50_pushed_endpoints_and_secrets_do_not_wait_either(talk: Kind) -> None:
    t = talk(cluster("c", eds=True), endpoints("c"), secret("s"))
    t.start(CLUSTER)
    t.ack(t.start(ENDPOINTS, "c")[0])
    t.ack(t.start(SECRET, "s")[0])
    sends = t.publish(cluster("c", eds=True), endpoints("c", 1), secret("s", 1))
    assert [send.type_url for send in sends] == [ENDPOINTS, SECRET]


@both
def test_s51_routes_are_answered_while_their_listener_warms_and_once_only(talk: Kind) -> None:
    t = talk(listener("l"), routes("r"))
    (warming,) = t.start(LISTENER)
    (send,) = t.start(ROUTES, "r")
    t.ack(send)
    t.ack(warming)
    (changed,) = t.publish(listener("l", 1), routes("r"))
    assert changed.type_url == LISTENER
    assert t.ack(changed) == []


@both
def test_s52_routes_wait_for_the_cluster_that_they_may_name(talk: Kind) -> None:
    t = talk(cluster("a"), routes("r"))
    t.ack(t.start(CLUSTER)[0])
    t.ack(t.start(ROUTES, "r")[0])
    (clusters,) = t.publish(cluster("a"), cluster("b"), routes("r", 1))
    assert clusters.type_url == CLUSTER
    assert t.machine.held_back
    (moved,) = t.ack(clusters)
    assert moved.type_url == ROUTES
    assert not t.machine.held_back


@both
def test_s52_waiting_ends_when_the_shell_says_so_but_not_for_a_cluster_never_sent(talk: Kind) -> None:
    t = talk(cluster("a"), routes("r"))
    t.ack(t.start(CLUSTER)[0])
    t.ack(t.start(ROUTES, "r")[0])
    t.publish(cluster("a"), cluster("b"), routes("r", 1))
    t.machine.release()
    (moved,) = t.drain()
    assert moved.type_url == ROUTES
    t.ack(moved)
    assert t.publish(cluster("a"), cluster("b"), cluster("c"), routes("r", 2)) == []
    t.machine.release()
    assert t.drain() == []


@both
def test_s52_a_refused_cluster_does_not_hold_routes_for_ever(talk: Kind) -> None:
    t = talk(cluster("a"), routes("r"))
    t.ack(t.start(CLUSTER)[0])
    t.ack(t.start(ROUTES, "r")[0])
    (clusters,) = t.publish(cluster("a", 1), routes("r", 1))
    (moved,) = t.nack(clusters)
    assert moved.type_url == ROUTES


@both
def test_s52_a_request_is_answered_while_clusters_are_pending(talk: Kind) -> None:
    t = talk(cluster("a"), routes("r"), extension("e"))
    t.start(CLUSTER)
    (send,) = t.start(EXTENSION, "e")
    assert names(send) == ["e"]


@variants
def test_limits_on_names_and_types(stream: Stream, request_type: Request) -> None:
    field = "resource_names" if stream is SotwStream else "resource_names_subscribe"
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
