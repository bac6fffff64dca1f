"""Statements of the state-of-the-world variant, as dialogues. Each test carries its statement's number."""

import pytest
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from tests.ads.dialogue import MAKERS, SotwTalk, cluster, endpoints, listener, names, routes, secret
from xds_server.ads.events import Acked, Nacked
from xds_server.resources import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SCOPED_ROUTES, SECRET

full_set = pytest.mark.parametrize("type_url", [CLUSTER, LISTENER, SCOPED_ROUTES])
partial = pytest.mark.parametrize("type_url", [ENDPOINTS, SECRET, EXTENSION, ROUTES])


def test_s04_a_first_request_with_an_old_nonce_and_version_is_answered() -> None:
    t = SotwTalk(routes("a"))
    version = t.snapshot.types[ROUTES].version
    (send,) = t.ask(ROUTES, "a", nonce="another-stream-7", version=version)
    assert names(send) == ["a"]
    assert t.heard == []


def test_s04_a_second_request_before_any_response_still_counts() -> None:
    t = SotwTalk()
    assert t.ask(ROUTES, "a", nonce="old-1") == []
    assert t.ask(ROUTES, "a", "b", nonce="old-1") == []
    (send,) = t.publish(routes("a"), routes("b"))
    assert names(send) == ["a", "b"]


def test_s08_a_nack_may_name_the_current_version() -> None:
    t = SotwTalk(routes("a"), routes("b"))
    (send,) = t.ask(ROUTES, "a")
    t.ack(send)
    (added,) = t.ask(ROUTES, "a", "b")
    t.ask(ROUTES, "a", "b", nonce=added.nonce, version=added.version, error="b is bad")
    assert t.heard[-1] == Nacked(ROUTES, added.version, added.nonce, "b is bad", ("b",))


def test_s16_of_several_requests_only_the_latest_is_answered() -> None:
    t = SotwTalk(routes("a"), routes("b"), routes("c"))
    (send,) = t.ask(ROUTES, "a")
    t.ack(send)
    for wanted in (["a", "b"], ["a", "c"], ["a", "b", "c"]):
        t.machine.receive(DiscoveryRequest(type_url=ROUTES, resource_names=wanted, response_nonce=send.nonce))
    (answer,) = t.drain()
    assert names(answer) == ["b", "c"]


def test_s17_a_stale_request_is_not_answered_and_its_names_count_with_the_ack() -> None:
    t = SotwTalk(routes("a"), routes("b"))
    (first,) = t.ask(ROUTES, "a")
    t.ack(first)
    (second,) = t.publish(routes("a", 1), routes("b"))
    assert t.ask(ROUTES, "a", "b", nonce=first.nonce) == []
    assert t.heard == [Acked(ROUTES, first.version, first.nonce)]
    (answer,) = t.ask(ROUTES, "a", "b", nonce=second.nonce)
    assert names(answer) == ["b"]


def test_s17_a_stale_request_is_not_answered_when_nothing_is_outstanding_either() -> None:
    t = SotwTalk(routes("a"), routes("b"))
    (first,) = t.ask(ROUTES, "a")
    t.ack(first)
    (second,) = t.publish(routes("a", 1), routes("b"))
    t.ack(second)
    assert t.ask(ROUTES, "a", "b", nonce=first.nonce) == []
    (answer,) = t.ask(ROUTES, "a", "b", nonce=second.nonce)
    assert names(answer) == ["b"]


def test_s17_a_request_sent_before_the_first_response_was_seen_is_stale() -> None:
    t = SotwTalk(routes("a"), routes("b"))
    (first,) = t.ask(ROUTES, "a", nonce="")
    assert t.ask(ROUTES, "a", "b", nonce="") == []
    (answer,) = t.ask(ROUTES, "a", "b", nonce=first.nonce)
    assert names(answer) == ["b"]


def test_s17_a_stale_error_is_no_nack() -> None:
    t = SotwTalk(routes("a"))
    (first,) = t.ask(ROUTES, "a")
    t.ack(first)
    t.publish(routes("a", 1))
    t.ask(ROUTES, "a", nonce=first.nonce, error="late")
    assert t.heard == [Acked(ROUTES, first.version, first.nonce)]


@pytest.mark.parametrize("type_url", list(MAKERS))
def test_s20_newly_named_resources_are_sent_though_unchanged(type_url: str) -> None:
    make = MAKERS[type_url]
    t = SotwTalk(make("a"), make("b"))
    (everything,) = t.ask(type_url, "*")
    t.ack(everything)
    (again,) = t.ask(type_url, "*", "b")
    assert "b" in names(again)
    t.ack(again)
    assert t.ask(type_url, "b", "*") == []


@pytest.mark.parametrize("type_url", list(MAKERS))
def test_s21_an_empty_first_list_means_everything(type_url: str) -> None:
    make = MAKERS[type_url]
    t = SotwTalk(make("a"), make("b"))
    (send,) = t.ask(type_url)
    assert names(send) == ["a", "b"]
    t.ack(send)
    (added,) = t.publish(make("a"), make("b"), make("c"))
    assert "c" in names(added)


def test_s22_a_star_means_everything() -> None:
    t = SotwTalk(cluster("a"), cluster("b"))
    (send,) = t.ask(CLUSTER, "*")
    assert names(send) == ["a", "b"]


def test_s23_s24_s25_s26_wildcard_and_names_then_names_then_nothing() -> None:
    t = SotwTalk(cluster("a"), cluster("b"))
    (send,) = t.ask(CLUSTER, "*", "a")
    assert names(send) == ["a", "b"]
    t.ack(send)
    assert t.ask(CLUSTER, "a") == []
    assert t.publish(cluster("a"), cluster("b", 1)) == []
    (own,) = t.publish(cluster("a", 1), cluster("b", 1))
    assert names(own) == ["a"]
    t.ack(own)
    assert t.ask(CLUSTER) == []
    assert t.publish(cluster("a", 2), cluster("c")) == []
    assert t.publish() == []


def test_s25_after_any_name_an_empty_list_is_not_everything() -> None:
    t = SotwTalk(cluster("a"), cluster("b"))
    t.ack(t.ask(CLUSTER, "a")[0])
    assert t.ask(CLUSTER) == []
    assert t.publish(cluster("a", 1)) == []


def test_s25_an_empty_list_after_a_legacy_wildcard_still_means_everything() -> None:
    t = SotwTalk(cluster("a"))
    t.ack(t.ask(CLUSTER)[0])
    assert t.ask(CLUSTER) == []
    assert len(t.publish(cluster("a", 1))) == 1


def test_s28_one_member_of_a_wildcard_cannot_be_unsubscribed() -> None:
    t = SotwTalk(cluster("a"), cluster("b"))
    t.ack(t.ask(CLUSTER, "*", "a")[0])
    assert t.ask(CLUSTER, "*") == []
    (send,) = t.publish(cluster("a", 1), cluster("b"))
    assert names(send) == ["a", "b"]


@full_set
def test_s29_clusters_and_listeners_are_always_the_full_set(type_url: str) -> None:
    make = MAKERS[type_url]
    t = SotwTalk(make("a"), make("b"))
    t.ack(t.ask(type_url)[0])
    (changed,) = t.publish(make("a", 1), make("b"))
    assert names(changed) == ["a", "b"]
    t.ack(changed)
    (fewer,) = t.publish(make("b"))
    assert names(fewer) == ["b"]
    t.ack(fewer)
    (none,) = t.publish()
    assert names(none) == []
    assert t.ack(none) == []


@full_set
def test_s29_an_empty_full_set_is_an_answer(type_url: str) -> None:
    t = SotwTalk()
    (send,) = t.ask(type_url)
    assert send.resources == ()
    assert t.ack(send) == []


@partial
def test_s30_other_types_carry_only_what_changed_and_absence_says_nothing(type_url: str) -> None:
    make = MAKERS[type_url]
    t = SotwTalk(make("a"), make("b"))
    t.ack(t.ask(type_url, "a", "b")[0])
    (changed,) = t.publish(make("a", 1), make("b"))
    assert names(changed) == ["a"]
    t.ack(changed)
    assert t.publish(make("a", 1)) == []
    (back,) = t.publish(make("a", 1), make("b"))
    assert names(back) == ["b"]


def test_s49_a_reconnected_client_gets_endpoints_and_clusters_anew() -> None:
    t = SotwTalk(cluster("c", eds=True), endpoints("c"))
    (assignments,) = t.ask(ENDPOINTS, "c", nonce="old")
    (clusters, *more) = t.ask(CLUSTER, nonce="old")
    assert clusters.type_url == CLUSTER
    assert more == []
    (again,) = t.ack(assignments)
    assert (again.type_url, names(again)) == (ENDPOINTS, ["c"])


def test_s49_a_repeated_request_with_the_same_nonce_needs_no_second_answer() -> None:
    t = SotwTalk(cluster("c", eds=True), endpoints("c"))
    t.ack(t.ask(CLUSTER)[0])
    t.ack(t.ask(ENDPOINTS, "c")[0])
    clusters, again = t.publish(cluster("c", 1, eds=True), endpoints("c"))
    assert t.ask(ENDPOINTS, "c", nonce="s-2") == []  # Envoy asks again as its cluster warms; the answer is on its way
    t.ack(again)
    t.ack(clusters)
    assert t.drain() == []


def test_a_refused_full_set_is_parked_and_a_shrunk_one_is_new() -> None:
    t = SotwTalk(listener("good"), listener("bad"))
    (send,) = t.ask(LISTENER)
    assert t.nack(send) == []
    assert t.publish(listener("good"), listener("bad")) == []
    (fewer,) = t.publish(listener("good"))
    assert names(fewer) == ["good"]
    t.ack(fewer)
    assert t.in_sync(LISTENER)


def test_a_secret_that_left_and_came_back_is_sent_again() -> None:
    t = SotwTalk(secret("s"))
    t.ack(t.ask(SECRET, "s")[0])
    assert t.publish() == []
    (send,) = t.publish(secret("s"))
    assert names(send) == ["s"]
