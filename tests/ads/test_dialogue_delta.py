"""Statements of the delta variant, as dialogues. Each test carries its statement's number."""

import pytest

from tests.ads.dialogue import MAKERS, DeltaTalk, cluster, endpoints, listener, names, routes, secret
from xds_server.ads.events import Acked
from xds_server.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, Resource

every_type = pytest.mark.parametrize("type_url", list(MAKERS))


def version(message: object) -> str:
    return Resource.of(message).version  # type: ignore[arg-type]


def test_s35_a_spontaneous_request_has_no_nonce_and_answers_nothing() -> None:
    t = DeltaTalk(routes("a"), routes("b"))
    (send,) = t.ask(ROUTES, "a")
    assert t.ask(ROUTES, "b") == []  # one response is outstanding
    assert t.heard == []
    (answer,) = t.ask(ROUTES, nonce=send.nonce)
    assert t.heard == [Acked(ROUTES, send.version, send.nonce)]
    assert names(answer) == ["b"]


def test_s36_a_stale_nonce_acknowledges_nothing_but_its_edit_counts() -> None:
    t = DeltaTalk(routes("a"), routes("b"))
    t.ack(t.ask(ROUTES, "a")[0])
    (second,) = t.publish(routes("a", 1), routes("b"))
    t.heard.clear()
    assert t.ask(ROUTES, "b", nonce="d-1") == []
    assert t.heard == []
    (answer,) = t.ack(second)
    assert names(answer) == ["b"]


@every_type
def test_s37_subscribing_again_to_a_current_resource_sends_it_again(type_url: str) -> None:
    make = MAKERS[type_url]
    t = DeltaTalk(make("a"), make("b"))
    t.ack(t.ask(type_url, "a", "b")[0])
    (again,) = t.ask(type_url, "a")
    assert names(again) == ["a"]
    assert t.ack(again) == []


@every_type
def test_s38_an_absent_name_is_listed_as_removed_and_stays_subscribed(type_url: str) -> None:
    make = MAKERS[type_url]
    t = DeltaTalk(make("a"))
    (send,) = t.ask(type_url, "a", "absent")
    assert (names(send), send.removed) == (["a"], ("absent",))
    assert t.ack(send) == []
    (later,) = t.publish(make("a"), make("absent"))
    assert (names(later), later.removed) == (["absent"], ())


def test_s38_asking_for_an_absent_name_again_lists_it_again() -> None:
    t = DeltaTalk()
    t.ack(t.ask(ROUTES, "absent")[0])
    (again,) = t.ask(ROUTES, "absent")
    assert again.removed == ("absent",)


def test_s39_unsubscribing_from_an_unknown_name_is_ignored() -> None:
    t = DeltaTalk(routes("a"))
    t.ack(t.ask(ROUTES, "a")[0])
    assert t.ask(ROUTES, unsubscribe=("nobody",)) == []
    assert len(t.publish(routes("a", 1))) == 1


def test_s40_a_pure_unsubscribe_gets_no_answer() -> None:
    t = DeltaTalk(routes("a"), routes("b"))
    t.ack(t.ask(ROUTES, "a", "b")[0])
    assert t.ask(ROUTES, unsubscribe=("a",)) == []
    assert t.publish(routes("a", 1), routes("b")) == []


def test_s40_under_a_wildcard_the_unsubscribed_name_comes_again() -> None:
    t = DeltaTalk(cluster("a"), cluster("b"))
    t.ack(t.ask(CLUSTER, "*", "a")[0])
    (again,) = t.ask(CLUSTER, unsubscribe=("a",))
    assert (names(again), again.removed) == (["a"], ())


def test_s40_under_a_wildcard_an_absent_unsubscribed_name_is_listed_as_removed() -> None:
    t = DeltaTalk(cluster("b"))
    t.ack(t.ask(CLUSTER, "*", "gone")[0])
    (again,) = t.ask(CLUSTER, unsubscribe=("gone",))
    assert (names(again), again.removed) == ([], ("gone",))


@every_type
def test_s41_a_deletion_is_told_exactly_once(type_url: str) -> None:
    make = MAKERS[type_url]
    t = DeltaTalk(make("a"), make("b"))
    t.ack(t.ask(type_url, "a", "b")[0])
    (removal,) = t.publish(make("a"))
    assert (names(removal), removal.removed) == ([], ("b",))
    assert t.ack(removal) == []
    assert t.publish(make("a")) == []
    (back,) = t.publish(make("a"), make("b"))
    assert (names(back), back.removed) == (["b"], ())


def test_s41_a_deletion_of_something_never_sent_is_not_told() -> None:
    t = DeltaTalk(cluster("a"))
    (send,) = t.ask(CLUSTER)
    assert t.publish(cluster("a"), cluster("brief")) == []
    assert t.publish(cluster("a")) == []
    assert t.ack(send) == []


@every_type
def test_s42_initial_versions_equal_changed_and_vanished(type_url: str) -> None:
    make = MAKERS[type_url]
    t = DeltaTalk(make("same"), make("changed", 1), make("new"))
    known = {"same": version(make("same")), "changed": version(make("changed")), "gone": version(make("gone"))}
    (send,) = t.ask(type_url, "same", "changed", "gone", "new", versions=known)
    assert sorted(names(send)) == ["changed", "new"]
    assert send.removed == ("gone",)


def test_s42_a_wildcard_client_that_has_it_all_is_sent_nothing() -> None:
    t = DeltaTalk(cluster("a"), cluster("b"))
    known = {name: version(cluster(name)) for name in ("a", "b")}
    assert t.ask(CLUSTER, versions=known) == []
    assert t.in_sync(CLUSTER)
    (send,) = t.publish(cluster("a"), cluster("b", 1))
    assert names(send) == ["b"]


def test_s42_versions_of_names_that_are_not_subscribed_mean_nothing() -> None:
    t = DeltaTalk(routes("a"))
    (send,) = t.ask(ROUTES, "a", versions={"gone": "0123456789abcdef"})
    assert (names(send), send.removed) == (["a"], ())


def test_s42_versions_count_on_the_first_request_only() -> None:
    t = DeltaTalk(routes("a"))
    (send,) = t.ask(ROUTES, "a")
    t.ack(send)
    (again,) = t.ask(ROUTES, "a", versions={"a": version(routes("a"))})
    assert names(again) == ["a"]


def test_s42_a_changed_cluster_forces_endpoints_that_the_client_says_it_has() -> None:
    t = DeltaTalk(cluster("c", 1, eds=True), endpoints("c"))
    assert t.ask(ENDPOINTS, "c", versions={"c": version(endpoints("c"))}) == []
    clusters, again = t.ask(CLUSTER, versions={"c": version(cluster("c", eds=True))})
    assert names(clusters) == ["c"]
    assert (again.type_url, names(again)) == (ENDPOINTS, ["c"])


@every_type
def test_s43_a_first_wildcard_with_nothing_to_send_gets_one_empty_response(type_url: str) -> None:
    t = DeltaTalk()
    (send,) = t.ask(type_url)
    assert (send.resources, send.removed) == ((), ())
    assert t.ack(send) == []
    assert t.publish() == []


def test_s44_a_legacy_wildcard_goes_on_beside_a_name_and_ends_with_an_unsubscribed_star() -> None:
    t = DeltaTalk(cluster("a"), cluster("b"))
    (send,) = t.ask(CLUSTER)
    assert names(send) == ["a", "b"]
    t.ack(send)
    (again,) = t.ask(CLUSTER, "a")
    assert names(again) == ["a"]
    t.ack(again)
    (both,) = t.publish(cluster("a", 1), cluster("b", 1))
    assert names(both) == ["a", "b"]
    t.ack(both)
    assert t.ask(CLUSTER, unsubscribe=("*",)) == []
    (own,) = t.publish(cluster("a", 2), cluster("b", 2))
    assert names(own) == ["a"]
    t.ack(own)
    assert t.ask(CLUSTER, unsubscribe=("a",)) == []
    assert t.publish(cluster("a", 3)) == []


def test_s44_a_star_is_a_wildcard() -> None:
    t = DeltaTalk(cluster("a"), cluster("b"))
    (send,) = t.ask(CLUSTER, "*")
    assert names(send) == ["a", "b"]


def test_s44_after_a_name_an_empty_request_is_not_a_wildcard() -> None:
    t = DeltaTalk(cluster("a"), cluster("b"))
    t.ack(t.ask(CLUSTER, "a")[0])
    assert t.ask(CLUSTER) == []
    assert t.publish(cluster("a"), cluster("b", 1)) == []


def test_s45_only_changes_are_sent_and_versions_follow_bytes() -> None:
    t = DeltaTalk(*(routes(name) for name in "abc"))
    (first,) = t.ask(ROUTES)
    t.ack(first)
    (send,) = t.publish(routes("a"), routes("b", 1), routes("c"))
    assert names(send) == ["b"]
    versions = {resource.data: resource.version for resource in first.resources + send.resources}
    assert len(versions) == len(set(versions.values())) == 4


def test_a_refused_removal_is_parked_and_a_return_is_sent() -> None:
    t = DeltaTalk(secret("s"))
    t.ack(t.ask(SECRET, "s")[0])
    (removal,) = t.publish()
    assert removal.removed == ("s",)
    assert t.nack(removal) == []
    assert t.publish() == []
    (back,) = t.publish(secret("s"))
    assert names(back) == ["s"]


def test_a_removed_listener_takes_its_routes_along_in_that_order() -> None:
    t = DeltaTalk(listener("l"), routes("r"))
    t.ack(t.ask(LISTENER)[0])
    t.ack(t.ask(ROUTES, "r")[0])
    (first,) = t.publish()
    assert (first.type_url, first.removed) == (LISTENER, ("l",))
    (second,) = t.ack(first)
    assert (second.type_url, second.removed) == (ROUTES, ("r",))
