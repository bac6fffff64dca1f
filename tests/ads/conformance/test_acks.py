"""ACK and NACK, statements 7 to 13: what the client makes of a response, and what the server makes of that."""

import pytest

from tests.ads.conformance.variants import Talks, both, delta, sotw
from tests.ads.dialogue import MAKERS, SotwTalk, listener, names, routes, secret
from xds_server.ads.events import Acked, Nacked
from xds_server.resources import LISTENER, PUSH_ORDER, ROUTES, SECRET


@both
def test_s07_s11_ack_and_nack_are_told_with_all_that_is_known(talk: Talks) -> None:
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
def test_s09_a_version_says_nothing_about_acceptance(talk: Talks) -> None:
    t = talk(routes("a"))
    (send,) = t.start(ROUTES, "a")
    if isinstance(t, SotwTalk):
        t.ask(ROUTES, "a", nonce=send.nonce, version="some older version")
    else:
        t.ack(send)
    assert t.heard == [Acked(ROUTES, send.version, send.nonce)]


@both
@pytest.mark.parametrize("type_url", PUSH_ORDER)
def test_s10_s13_a_refused_version_is_parked_until_content_changes(talk: Talks, type_url: str) -> None:
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
def test_s10_going_back_to_what_was_accepted_is_sent_because_a_nack_is_not_atomic(talk: Talks) -> None:
    t = talk(routes("a"))
    t.take(ROUTES, "a")
    (bad,) = t.publish(routes("a", 1))
    t.nack(bad)
    (good,) = t.publish(routes("a"))
    assert names(good) == ["a"]
    t.ack(good)
    assert t.in_sync(ROUTES)


@both
def test_s10_a_refused_resource_does_not_spoil_the_others_way(talk: Talks) -> None:
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
def test_s10_what_a_refusal_blocked_goes_out_with_the_fix(talk: Talks) -> None:
    t = talk(routes("bad"), routes("good"))
    t.nack(t.start(ROUTES, "bad", "good")[0])
    (fix,) = t.publish(routes("bad", 1), routes("good"))
    (rest,) = t.ack(fix)
    assert sorted(names(fix) + names(rest)) == ["bad", "good"]
    assert t.ack(rest) == []
    assert t.in_sync(ROUTES)


@both
def test_s12_a_nack_that_changes_the_subscription_gets_the_new_names_only(talk: Talks) -> None:
    t = talk(routes("a"), routes("b"))
    (send,) = t.start(ROUTES, "a")
    (answer,) = t.nack(send, wanted=("a", "b"), added=("b",))
    assert names(answer) == ["b"]
    assert t.ack(answer) == []
    assert not t.in_sync(ROUTES)


@sotw
def test_s08_a_nack_may_name_the_current_version(talk: Talks) -> None:
    t = talk(routes("a"), routes("b"))
    (send,) = t.ask(ROUTES, "a")
    t.ack(send)
    (added,) = t.ask(ROUTES, "a", "b")
    t.ask(ROUTES, "a", "b", nonce=added.nonce, version=added.version, error="b is bad")
    assert t.heard[-1] == Nacked(ROUTES, added.version, added.nonce, "b is bad", ("b",))


@sotw
def test_a_refused_full_set_is_parked_and_a_shrunk_one_is_new(talk: Talks) -> None:
    t = talk(listener("good"), listener("bad"))
    (send,) = t.ask(LISTENER)
    assert t.nack(send) == []
    assert t.publish(listener("good"), listener("bad")) == []
    (fewer,) = t.publish(listener("good"))
    assert names(fewer) == ["good"]
    t.ack(fewer)
    assert t.in_sync(LISTENER)


@delta
def test_a_refused_removal_is_parked_and_a_return_is_sent(talk: Talks) -> None:
    t = talk(secret("s"))
    t.take(SECRET, "s")
    (removal,) = t.publish()
    assert removal.removed == ("s",)
    assert t.nack(removal) == []
    assert t.publish() == []
    (back,) = t.publish(secret("s"))
    assert names(back) == ["s"]
