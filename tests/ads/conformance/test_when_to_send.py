"""When to send, statements 14 to 18: on a change or for a new name, once, and the same bytes everywhere."""

import pytest
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from tests.ads.conformance.variants import Talks, both, sotw
from tests.ads.dialogue import MAKERS, cluster, names, routes
from xds_server.ads.events import Acked
from xds_server.resources import CLUSTER, PUSH_ORDER, ROUTES


@both
@pytest.mark.parametrize("type_url", PUSH_ORDER)
def test_s14_s15_unchanged_content_is_not_sent_again(talk: Talks, type_url: str) -> None:
    make = MAKERS[type_url]
    t = talk(make("a"), make("b"))
    (send,) = t.start(type_url, "a")
    assert t.ack(send) == []
    assert t.ack(send) == []
    assert t.publish(make("a"), make("b")) == []
    assert t.publish(make("a"), make("b", 1)) == []
    assert t.in_sync(type_url)


@both
def test_s16_s17_one_response_is_outstanding_and_the_newest_content_follows_it(talk: Talks) -> None:
    t = talk(routes("a"))
    (send,) = t.start(ROUTES, "a")
    assert t.publish(routes("a", 1)) == []
    assert t.publish(routes("a", 2)) == []
    (newest,) = t.ack(send)
    assert newest.resources == tuple(t.snapshot.types[ROUTES].resources.values())
    assert t.ack(newest) == []


@both
def test_s18_equal_content_makes_equal_responses_in_another_process(talk: Talks) -> None:
    content = [routes("b"), routes("a")]
    one, other = talk(*content), talk(*reversed(content))
    one.publish(*content)
    (a,), (b,) = one.start(ROUTES), other.start(ROUTES)
    assert (a.version, a.resources, a.removed) == (b.version, b.resources, b.removed)


@sotw
def test_s16_of_several_requests_only_the_latest_is_answered(talk: Talks) -> None:
    t = talk(routes("a"), routes("b"), routes("c"))
    (send,) = t.ask(ROUTES, "a")
    t.ack(send)
    for wanted in (["a", "b"], ["a", "c"], ["a", "b", "c"]):
        t.say(DiscoveryRequest(type_url=ROUTES, resource_names=wanted, response_nonce=send.nonce))
    (answer,) = t.drain()  # on the wire it may be to the first of them
    assert "b" in names(answer)
    rest = t.ask(ROUTES, "a", "b", "c", nonce=answer.nonce)
    assert sorted(name for send in (answer, *rest) for name in names(send)) == ["b", "c"]


@sotw
def test_s17_a_stale_request_is_not_answered_and_its_names_count_with_the_ack(talk: Talks) -> None:
    t = talk(routes("a"), routes("b"))
    (first,) = t.ask(ROUTES, "a")
    t.ack(first)
    (second,) = t.publish(routes("a", 1), routes("b"))
    assert t.ask(ROUTES, "a", "b", nonce=first.nonce) == []
    assert t.heard == [Acked(ROUTES, first.version, first.nonce)]
    (answer,) = t.ask(ROUTES, "a", "b", nonce=second.nonce)
    assert names(answer) == ["b"]


@sotw
def test_s17_a_stale_request_is_not_answered_when_nothing_is_outstanding_either(talk: Talks) -> None:
    t = talk(routes("a"), routes("b"))
    (first,) = t.ask(ROUTES, "a")
    t.ack(first)
    (second,) = t.publish(routes("a", 1), routes("b"))
    t.ack(second)
    assert t.ask(ROUTES, "a", "b", nonce=first.nonce) == []
    (answer,) = t.ask(ROUTES, "a", "b", nonce=second.nonce)
    assert names(answer) == ["b"]


@sotw
def test_s17_a_request_sent_before_the_first_response_was_seen_is_stale(talk: Talks) -> None:
    t = talk(routes("a"), routes("b"))
    (first,) = t.ask(ROUTES, "a", nonce="")
    assert t.ask(ROUTES, "a", "b", nonce="") == []
    (answer,) = t.ask(ROUTES, "a", "b", nonce=first.nonce)
    assert names(answer) == ["b"]


@sotw
def test_s17_a_stale_error_is_no_nack(talk: Talks) -> None:
    t = talk(routes("a"))
    (first,) = t.ask(ROUTES, "a")
    t.ack(first)
    t.publish(routes("a", 1))
    t.ask(ROUTES, "a", nonce=first.nonce, error="late")
    assert t.heard == [Acked(ROUTES, first.version, first.nonce)]


@sotw
def test_s18_a_version_stands_for_one_content_also_of_what_is_kept_for_a_while(talk: Talks) -> None:
    """Two clients still route to the same old cluster, each to the edition of it that it has."""
    versions = set()
    for edition in (0, 1):
        t = talk(cluster("old", edition), routes("r"))
        t.take(CLUSTER)
        t.take(ROUTES, "r")
        (kept,) = t.publish(cluster("new"), routes("r", 1))
        assert names(kept) == ["new", "old"]
        versions.add(kept.version)
    assert len(versions) == 2
