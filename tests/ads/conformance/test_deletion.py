"""Grouping and deletion, statements 29 to 32: which responses are full sets, and what absence says."""

import pytest

from tests.ads.conformance.variants import Talks, sotw
from tests.ads.dialogue import MAKERS, names, routes, secret
from xds_server.resources import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SCOPED_ROUTES, SECRET, Snapshot

full_set = pytest.mark.parametrize("type_url", [CLUSTER, LISTENER, SCOPED_ROUTES])
partial = pytest.mark.parametrize("type_url", [ENDPOINTS, SECRET, EXTENSION, ROUTES])


def test_s31_a_snapshot_has_no_two_resources_of_one_name() -> None:
    with pytest.raises(ValueError, match="two resources are called 'a'"):
        Snapshot.of(1, [routes("a"), routes("a", 1)])


@sotw
@full_set
def test_s29_clusters_and_listeners_are_always_the_full_set(talk: Talks, type_url: str) -> None:
    make = MAKERS[type_url]
    t = talk(make("a"), make("b"))
    t.take(type_url)
    (changed,) = t.publish(make("a", 1), make("b"))
    assert names(changed) == ["a", "b"]
    t.ack(changed)
    (fewer,) = t.publish(make("b"))
    assert names(fewer) == ["b"]
    t.ack(fewer)
    (none,) = t.publish()
    assert names(none) == []
    assert t.ack(none) == []


@sotw
@full_set
def test_s29_an_empty_full_set_is_an_answer(talk: Talks, type_url: str) -> None:
    t = talk()
    (send,) = t.ask(type_url)
    assert send.resources == ()
    assert t.ack(send) == []


@sotw
@partial
def test_s30_other_types_carry_only_what_changed_and_absence_says_nothing(talk: Talks, type_url: str) -> None:
    make = MAKERS[type_url]
    t = talk(make("a"), make("b"))
    t.take(type_url, "a", "b")
    (changed,) = t.publish(make("a", 1), make("b"))
    assert names(changed) == ["a"]
    t.ack(changed)
    assert t.publish(make("a", 1)) == []
    (back,) = t.publish(make("a", 1), make("b"))
    assert names(back) == ["b"]


@sotw
def test_a_secret_that_left_and_came_back_is_sent_again(talk: Talks) -> None:
    t = talk(secret("s"))
    t.take(SECRET, "s")
    assert t.publish() == []
    (send,) = t.publish(secret("s"))
    assert names(send) == ["s"]
