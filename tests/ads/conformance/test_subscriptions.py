"""Subscriptions, statements 19 to 28, 33 and 34: names, the wildcard in its two spellings, and giving them up."""

import pytest

from tests.ads.conformance.variants import Talks, both, sotw
from tests.ads.dialogue import MAKERS, SotwTalk, cluster, names, routes
from xds_server.resources import CLUSTER, PUSH_ORDER, ROUTES


@both
@pytest.mark.parametrize("type_url", PUSH_ORDER)
def test_s19_s34_what_is_asked_is_supplied_and_nothing_else(talk: Talks, type_url: str) -> None:
    make = MAKERS[type_url]
    t = talk(make("a"), make("b"), make("c"))
    (send,) = t.start(type_url, "a", "c")
    assert names(send) == ["a", "c"]


@both
def test_s27_unsubscribe_then_resubscribe_sends_again(talk: Talks) -> None:
    t = talk(routes("a"), routes("b"))
    t.take(ROUTES, "a", "b")
    if isinstance(t, SotwTalk):
        assert t.ask(ROUTES, "b") == []
        (send,) = t.ask(ROUTES, "a", "b")
    else:
        assert t.ask(ROUTES, unsubscribe=("a",)) == []
        (send,) = t.ask(ROUTES, "a")
    assert names(send) == ["a"]


@both
@pytest.mark.parametrize("type_url", PUSH_ORDER)
def test_s33_a_name_asked_for_early_is_sent_when_it_appears(talk: Talks, type_url: str) -> None:
    make = MAKERS[type_url]
    t = talk()
    for send in t.start(type_url, "later"):
        assert send.resources == ()
        t.ack(send)
    (send,) = t.publish(make("later"))
    assert names(send) == ["later"]


@sotw
@pytest.mark.parametrize("type_url", list(MAKERS))
def test_s20_newly_named_resources_are_sent_though_unchanged(talk: Talks, type_url: str) -> None:
    make = MAKERS[type_url]
    t = talk(make("a"), make("b"))
    (everything,) = t.ask(type_url, "*")
    t.ack(everything)
    (again,) = t.ask(type_url, "*", "b")
    assert "b" in names(again)
    t.ack(again)
    assert t.ask(type_url, "b", "*") == []


@sotw
@pytest.mark.parametrize("type_url", list(MAKERS))
def test_s21_an_empty_first_list_means_everything(talk: Talks, type_url: str) -> None:
    make = MAKERS[type_url]
    t = talk(make("a"), make("b"))
    (send,) = t.ask(type_url)
    assert names(send) == ["a", "b"]
    t.ack(send)
    (added,) = t.publish(make("a"), make("b"), make("c"))
    assert "c" in names(added)


@sotw
def test_s22_a_star_means_everything(talk: Talks) -> None:
    t = talk(cluster("a"), cluster("b"))
    (send,) = t.ask(CLUSTER, "*")
    assert names(send) == ["a", "b"]


@sotw
def test_s23_s24_s25_s26_wildcard_and_names_then_names_then_nothing(talk: Talks) -> None:
    t = talk(cluster("a"), cluster("b"))
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


@sotw
def test_s25_after_any_name_an_empty_list_is_not_everything(talk: Talks) -> None:
    t = talk(cluster("a"), cluster("b"))
    t.take(CLUSTER, "a")
    assert t.ask(CLUSTER) == []
    assert t.publish(cluster("a", 1)) == []


@sotw
def test_s25_an_empty_list_after_a_legacy_wildcard_still_means_everything(talk: Talks) -> None:
    t = talk(cluster("a"))
    t.take(CLUSTER)
    assert t.ask(CLUSTER) == []
    assert len(t.publish(cluster("a", 1))) == 1


@sotw
def test_s28_one_member_of_a_wildcard_cannot_be_unsubscribed(talk: Talks) -> None:
    t = talk(cluster("a"), cluster("b"))
    t.take(CLUSTER, "*", "a")
    assert t.ask(CLUSTER, "*") == []
    (send,) = t.publish(cluster("a", 1), cluster("b"))
    assert names(send) == ["a", "b"]
