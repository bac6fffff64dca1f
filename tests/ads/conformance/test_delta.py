"""The delta variant, statements 35 to 45: edits of a subscription, versions of resources, named removals."""

import pytest

from tests.ads.conformance.variants import Talks, delta
from tests.ads.dialogue import MAKERS, cluster, endpoints, names, routes
from xds_server.ads.events import Acked
from xds_server.resources import CLUSTER, ENDPOINTS, ROUTES, Resource

every_type = pytest.mark.parametrize("type_url", list(MAKERS))


def version(message: object) -> str:
    return Resource.of(message).version  # type: ignore[arg-type]


@delta
def test_s35_a_spontaneous_request_has_no_nonce_and_answers_nothing(talk: Talks) -> None:
    t = talk(routes("a"), routes("b"))
    (send,) = t.ask(ROUTES, "a")
    assert t.ask(ROUTES, "b") == []  # one response is outstanding
    assert t.heard == []
    (answer,) = t.ask(ROUTES, nonce=send.nonce)
    assert t.heard == [Acked(ROUTES, send.version, send.nonce)]
    assert names(answer) == ["b"]


@delta
def test_s36_a_stale_nonce_acknowledges_nothing_but_its_edit_counts(talk: Talks) -> None:
    t = talk(routes("a"), routes("b"))
    (first,) = t.ask(ROUTES, "a")
    t.ack(first)
    (second,) = t.publish(routes("a", 1), routes("b"))
    t.heard.clear()
    assert t.ask(ROUTES, "b", nonce=first.nonce) == []
    assert t.heard == []
    (answer,) = t.ack(second)
    assert names(answer) == ["b"]


@delta
@every_type
def test_s37_subscribing_again_to_a_current_resource_sends_it_again(talk: Talks, type_url: str) -> None:
    make = MAKERS[type_url]
    t = talk(make("a"), make("b"))
    t.take(type_url, "a", "b")
    (again,) = t.ask(type_url, "a")
    assert names(again) == ["a"]
    assert t.ack(again) == []


@delta
@every_type
def test_s38_an_absent_name_is_listed_as_removed_and_stays_subscribed(talk: Talks, type_url: str) -> None:
    make = MAKERS[type_url]
    t = talk(make("a"))
    (send,) = t.ask(type_url, "a", "absent")
    assert (names(send), send.removed) == (["a"], ("absent",))
    assert t.ack(send) == []
    (later,) = t.publish(make("a"), make("absent"))
    assert (names(later), later.removed) == (["absent"], ())


@delta
def test_s38_asking_for_an_absent_name_again_lists_it_again(talk: Talks) -> None:
    t = talk()
    t.take(ROUTES, "absent")
    (again,) = t.ask(ROUTES, "absent")
    assert again.removed == ("absent",)


@delta
def test_s39_unsubscribing_from_an_unknown_name_is_ignored(talk: Talks) -> None:
    t = talk(routes("a"))
    t.take(ROUTES, "a")
    assert t.ask(ROUTES, unsubscribe=("nobody",)) == []
    assert len(t.publish(routes("a", 1))) == 1


@delta
def test_s40_a_pure_unsubscribe_gets_no_answer(talk: Talks) -> None:
    t = talk(routes("a"), routes("b"))
    t.take(ROUTES, "a", "b")
    assert t.ask(ROUTES, unsubscribe=("a",)) == []
    assert t.publish(routes("a", 1), routes("b")) == []


@delta
def test_s40_under_a_wildcard_the_unsubscribed_name_comes_again(talk: Talks) -> None:
    t = talk(cluster("a"), cluster("b"))
    t.take(CLUSTER, "*", "a")
    (again,) = t.ask(CLUSTER, unsubscribe=("a",))
    assert (names(again), again.removed) == (["a"], ())


@delta
def test_s40_under_a_wildcard_an_absent_unsubscribed_name_is_listed_as_removed(talk: Talks) -> None:
    t = talk(cluster("b"))
    t.take(CLUSTER, "*", "gone")
    (again,) = t.ask(CLUSTER, unsubscribe=("gone",))
    assert (names(again), again.removed) == ([], ("gone",))


@delta
@every_type
def test_s41_a_deletion_is_told_exactly_once(talk: Talks, type_url: str) -> None:
    make = MAKERS[type_url]
    t = talk(make("a"), make("b"))
    t.take(type_url, "a", "b")
    (removal,) = t.publish(make("a"))
    assert (names(removal), removal.removed) == ([], ("b",))
    assert t.ack(removal) == []
    assert t.publish(make("a")) == []
    (back,) = t.publish(make("a"), make("b"))
    assert (names(back), back.removed) == (["b"], ())


@delta
def test_s41_a_deletion_of_something_never_sent_is_not_told(talk: Talks) -> None:
    t = talk(cluster("a"))
    (send,) = t.ask(CLUSTER)
    assert t.publish(cluster("a"), cluster("brief")) == []
    assert t.publish(cluster("a")) == []
    assert t.ack(send) == []


@delta
@every_type
def test_s42_initial_versions_equal_changed_and_vanished(talk: Talks, type_url: str) -> None:
    make = MAKERS[type_url]
    t = talk(make("same"), make("changed", 1), make("new"), patience=0.1)
    known = {"same": version(make("same")), "changed": version(make("changed")), "gone": version(make("gone"))}
    sends = t.ask(type_url, "same", "changed", "gone", "new", versions=known)
    for send in sends:
        assert t.ack(send) == []
    sends += t.wait()  # for whoever may still point at what is gone, and does not speak up
    assert sorted(name for send in sends for name in names(send)) == ["changed", "new"]
    assert [name for send in sends for name in send.removed] == ["gone"]


@delta
def test_s42_a_wildcard_client_that_has_it_all_is_sent_nothing(talk: Talks) -> None:
    t = talk(cluster("a"), cluster("b"))
    known = {name: version(cluster(name)) for name in ("a", "b")}
    assert t.ask(CLUSTER, versions=known) == []
    assert t.in_sync(CLUSTER)
    (send,) = t.publish(cluster("a"), cluster("b", 1))
    assert names(send) == ["b"]


@delta
def test_s42_versions_of_names_that_are_not_subscribed_mean_nothing(talk: Talks) -> None:
    t = talk(routes("a"))
    (send,) = t.ask(ROUTES, "a", versions={"gone": "0123456789abcdef"})
    assert (names(send), send.removed) == (["a"], ())


@delta
def test_s42_versions_count_on_the_first_request_only(talk: Talks) -> None:
    t = talk(routes("a"))
    (send,) = t.ask(ROUTES, "a")
    t.ack(send)
    (again,) = t.ask(ROUTES, "a", versions={"a": version(routes("a"))})
    assert names(again) == ["a"]


@delta
def test_s42_a_changed_cluster_forces_endpoints_that_the_client_says_it_has(talk: Talks) -> None:
    t = talk(cluster("c", 1, eds=True), endpoints("c"))
    assert t.ask(ENDPOINTS, "c", versions={"c": version(endpoints("c"))}) == []
    clusters, again = t.ask(CLUSTER, versions={"c": version(cluster("c", eds=True))})
    assert names(clusters) == ["c"]
    assert (again.type_url, names(again)) == (ENDPOINTS, ["c"])


@delta
@every_type
def test_s43_a_first_wildcard_with_nothing_to_send_gets_one_empty_response(talk: Talks, type_url: str) -> None:
    t = talk()
    (send,) = t.ask(type_url)
    assert (send.resources, send.removed) == ((), ())
    assert t.ack(send) == []
    assert t.publish() == []


@delta
def test_s44_a_legacy_wildcard_goes_on_beside_a_name_and_ends_with_an_unsubscribed_star(talk: Talks) -> None:
    t = talk(cluster("a"), cluster("b"))
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


@delta
def test_s44_a_first_request_that_only_unsubscribes_means_everything_too(talk: Talks) -> None:
    t = talk(cluster("a"), cluster("b"))
    (send,) = t.ask(CLUSTER, unsubscribe=("nobody",))
    assert names(send) == ["a", "b"]


@delta
def test_s44_a_first_request_that_unsubscribes_from_everything_means_nothing(talk: Talks) -> None:
    t = talk(cluster("a"))
    assert t.ask(CLUSTER, unsubscribe=("*",)) == []
    assert t.publish(cluster("a", 1)) == []


@delta
def test_s44_a_star_is_a_wildcard(talk: Talks) -> None:
    t = talk(cluster("a"), cluster("b"))
    (send,) = t.ask(CLUSTER, "*")
    assert names(send) == ["a", "b"]


@delta
def test_s44_after_a_name_an_empty_request_is_not_a_wildcard(talk: Talks) -> None:
    t = talk(cluster("a"), cluster("b"))
    t.take(CLUSTER, "a")
    assert t.ask(CLUSTER) == []
    assert t.publish(cluster("a"), cluster("b", 1)) == []


@delta
def test_s45_only_changes_are_sent_and_versions_follow_bytes(talk: Talks) -> None:
    t = talk(*(routes(name) for name in "abc"))
    (first,) = t.ask(ROUTES)
    t.ack(first)
    (send,) = t.publish(routes("a"), routes("b", 1), routes("c"))
    assert names(send) == ["b"]
    versions = {resource.data: resource.version for resource in first.resources + send.resources}
    assert len(versions) == len(set(versions.values())) == 4
