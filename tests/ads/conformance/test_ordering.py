"""Ordering and warming, statements 47 to 52: make before break, and nothing waits in a circle."""

from tests.ads.conformance.variants import Talks, both, delta, sotw
from tests.ads.dialogue import MAKERS, SotwTalk, Talk, cluster, endpoints, extension, listener, names, routes, secret
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
)

PATIENCE = 0.6
"""Seconds that the server waits for a client, where a test is about the end of that."""


def everything(t: Talk) -> None:
    """Subscribe to one of each type, in no sensible order, and acknowledge all."""
    for type_url in reversed(PUSH_ORDER):
        for send in t.start(type_url, *(() if type_url in (CLUSTER, LISTENER) else ("a",))):
            for more in t.ack(send):
                t.ack(more)
    assert t.in_sync(*PUSH_ORDER)


@both
def test_s47_updates_go_out_in_make_before_break_order(talk: Talks) -> None:
    t = talk(*(make("a") for make in MAKERS.values()))
    everything(t)
    sends = t.publish(*(make("a", 1) for make in reversed(MAKERS.values())))
    assert [send.type_url for send in sends] == [RUNTIME, CLUSTER, ENDPOINTS, SECRET, RATE_LIMITS]
    (clusters,) = [send for send in sends if send.type_url == CLUSTER]
    rest = t.ack(clusters)
    assert [send.type_url for send in rest] == [EXTENSION, LISTENER, SCOPED_ROUTES, ROUTES, VIRTUAL_HOST]


@both
def test_s48_removal_runs_the_other_way_and_waits_for_acks(talk: Talks) -> None:
    old = [cluster("a", eds=True), endpoints("a"), listener("l"), routes("a")]
    t = talk(*old, cluster("b", eds=True), endpoints("b"))
    t.take(CLUSTER)
    t.take(ENDPOINTS, "a", "b")
    t.take(LISTENER)
    t.take(ROUTES, "a")
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
def test_s48_a_swap_keeps_the_old_cluster_until_the_routes_have_moved(talk: Talks) -> None:
    t = talk(cluster("old"), routes("r"))
    t.take(CLUSTER)
    t.take(ROUTES, "r")
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
    assert t.in_sync(CLUSTER, ROUTES)


@both
def test_s49_endpoints_of_a_changed_cluster_follow_it_even_if_unchanged(talk: Talks) -> None:
    content = [cluster("same", eds=True), endpoints("same"), endpoints("svc")]
    t = talk(*content, cluster("c", eds=True, service="svc"))
    t.take(CLUSTER)
    t.take(ENDPOINTS, "same", "svc")
    clusters, again = t.publish(*content, cluster("c", 1, eds=True, service="svc"))
    assert clusters.type_url == CLUSTER
    assert (again.type_url, names(again)) == (ENDPOINTS, ["svc"])
    t.ack(clusters)
    t.ack(again)
    assert t.drain() == []


@both
def test_s49_holds_when_endpoints_are_unacknowledged_at_that_moment(talk: Talks) -> None:
    t = talk(cluster("c", eds=True), endpoints("c"))
    t.take(CLUSTER)
    (early,) = t.start(ENDPOINTS, "c")
    (clusters,) = t.publish(cluster("c", 1, eds=True), endpoints("c"))
    assert clusters.type_url == CLUSTER
    (again,) = t.ack(early)
    assert (again.type_url, names(again)) == (ENDPOINTS, ["c"])


@both
def test_s50_endpoints_and_secrets_are_answered_without_an_ack_of_clusters(talk: Talks) -> None:
    t = talk(cluster("c", eds=True), endpoints("c"), secret("s"))
    (clusters,) = t.start(CLUSTER)
    assert names(clusters) == ["c"]
    assert [names(send) for send in t.start(ENDPOINTS, "c")] == [["c"]]
    assert [names(send) for send in t.start(SECRET, "s")] == [["s"]]


@both
def test_s50_pushed_endpoints_and_secrets_do_not_wait_either(talk: Talks) -> None:
    t = talk(cluster("c", eds=True), endpoints("c"), secret("s"))
    t.start(CLUSTER)
    t.take(ENDPOINTS, "c")
    t.take(SECRET, "s")
    sends = t.publish(cluster("c", eds=True), endpoints("c", 1), secret("s", 1))
    assert [send.type_url for send in sends] == [ENDPOINTS, SECRET]


@both
def test_s51_routes_are_answered_while_their_listener_warms_and_once_only(talk: Talks) -> None:
    t = talk(listener("l"), routes("r"))
    (warming,) = t.start(LISTENER)
    (send,) = t.start(ROUTES, "r")
    t.ack(send)
    t.ack(warming)
    (changed,) = t.publish(listener("l", 1), routes("r"))
    assert changed.type_url == LISTENER
    assert t.ack(changed) == []


@both
def test_s52_routes_wait_for_the_cluster_that_they_may_name(talk: Talks) -> None:
    t = talk(cluster("a"), routes("r"))
    t.take(CLUSTER)
    t.take(ROUTES, "r")
    (clusters,) = t.publish(cluster("a"), cluster("b"), routes("r", 1))
    assert clusters.type_url == CLUSTER
    (moved,) = t.ack(clusters)
    assert moved.type_url == ROUTES


@both
def test_s52_waiting_ends_after_a_while_but_not_for_a_cluster_never_sent(talk: Talks) -> None:
    t = talk(cluster("a"), routes("r"), patience=PATIENCE)
    t.take(CLUSTER)
    t.take(ROUTES, "r")
    t.publish(cluster("a"), cluster("b"), routes("r", 1))
    (moved,) = t.wait()
    assert moved.type_url == ROUTES
    t.ack(moved)
    assert t.publish(cluster("a"), cluster("b"), cluster("c"), routes("r", 2)) == []
    assert t.wait() == []


@both
def test_s52_a_refused_cluster_does_not_hold_routes_for_ever(talk: Talks) -> None:
    t = talk(cluster("a"), routes("r"))
    t.take(CLUSTER)
    t.take(ROUTES, "r")
    (clusters,) = t.publish(cluster("a", 1), routes("r", 1))
    (moved,) = t.nack(clusters)
    assert moved.type_url == ROUTES


@both
def test_s52_a_request_is_answered_while_clusters_are_pending(talk: Talks) -> None:
    t = talk(cluster("a"), routes("r"), extension("e"))
    t.start(CLUSTER)
    (send,) = t.start(EXTENSION, "e")
    assert names(send) == ["e"]


@sotw
def test_s49_a_reconnected_client_gets_endpoints_and_clusters_anew(talk: Talks) -> None:
    t = talk(cluster("c", eds=True), endpoints("c"))
    (assignments,) = t.ask(ENDPOINTS, "c", nonce="old")
    (clusters, *more) = t.ask(CLUSTER, nonce="old")
    assert clusters.type_url == CLUSTER
    assert more == []
    (again,) = t.ack(assignments)
    assert (again.type_url, names(again)) == (ENDPOINTS, ["c"])


@sotw
def test_s49_a_repeated_request_with_the_same_nonce_needs_no_second_answer(talk: Talks) -> None:
    t = talk(cluster("c", eds=True), endpoints("c"))
    t.take(CLUSTER)
    t.take(ENDPOINTS, "c")
    clusters, again = t.publish(cluster("c", 1, eds=True), endpoints("c"))
    assert t.ask(ENDPOINTS, "c", nonce="s-2") == []  # Envoy asks again as its cluster warms; the answer is on its way
    t.ack(again)
    t.ack(clusters)
    assert t.drain() == []


@delta
def test_a_removed_listener_takes_its_routes_along_in_that_order(talk: Talks) -> None:
    t = talk(listener("l"), routes("r"))
    t.take(LISTENER)
    t.take(ROUTES, "r")
    (first,) = t.publish()
    assert (first.type_url, first.removed) == (LISTENER, ("l",))
    (second,) = t.ack(first)
    assert (second.type_url, second.removed) == (ROUTES, ("r",))


@both
def test_s52_an_answer_waits_for_a_cluster_that_was_never_sent(talk: Talks) -> None:
    t = talk(cluster("a"))
    (first,) = t.start(CLUSTER)
    assert t.publish(cluster("a"), cluster("b"), routes("of-b")) == []
    assert t.start(ROUTES, "of-b") == []
    clusters, answer = t.ack(first)
    assert "b" in names(clusters)
    assert names(answer) == ["of-b"]  # b is still warming: the client asked, so it has nothing better


@both
def test_s52_an_answer_waits_for_a_while_only(talk: Talks) -> None:
    t = talk(cluster("a"), patience=PATIENCE)
    t.start(CLUSTER)
    t.publish(cluster("a"), cluster("b"), routes("of-b"))
    t.start(ROUTES, "of-b")
    (answer,) = t.wait()
    assert names(answer) == ["of-b"]


@both
def test_s52_an_answer_takes_no_update_along(talk: Talks) -> None:
    t = talk(cluster("a"), routes("r"))
    t.take(CLUSTER)
    t.take(ROUTES, "r")
    (clusters,) = t.publish(cluster("a"), cluster("b"), routes("r", 1), routes("s"))
    (answer,) = t.ask(ROUTES, *(("r", "s") if isinstance(t, SotwTalk) else ("s",)))
    assert names(answer) == ["s"]
    assert t.ack(answer) == []
    (moved,) = t.ack(clusters)
    assert names(moved) == ["r"]
