"""Descriptor trees for other fleets, by the examples and test configurations of envoyproxy/ratelimit, written anew."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from policy.metrics import DETAILS, Metrics
from policy.ratelimit.answer import answer
from policy.ratelimit.domains import trees
from policy.ratelimit.memory import MemoryStore
from policy.ratelimit.plan import plan
from policy.ratelimit.service import RateLimit
from policy.ratelimit.store import Unavailable
from policy.ratelimit.tree import Node, Pattern
from policy.view import Views
from protos.tollhouse.ratelimit.v1 import ratelimit_pb2

from .facts_of import gateway, view

DOMAIN = "fleet"


def fixed(key, limit, value=None, **more):
    written = {"key": key, "limit": limit, "algorithm": "fixed", **more}
    return written if value is None else written | {"value": value}


BASIC = [
    {
        "key": "key1",
        "value": "value1",
        "descriptors": [fixed("subkey1", "5/second"), fixed("subkey1", "10/second", "subvalue1")],
    },
    fixed("key2", "20/minute"),
    fixed("key2", "30/minute", "value2"),
    {"key": "key2", "value": "value3"},
    fixed("key3", "1/hour"),
    fixed("key5", "15/day", "value5", descriptors=[fixed("subkey5", "25/day", "subvalue5")]),
    {"key": "key6", "unlimited": True},
    fixed("key7", "70/minute", detailed_metric=True),
]
WILD = [
    fixed("noVal", "30/minute"),
    fixed("wild", "20/minute", "foo*"),
    fixed("wild", "40/minute", "foobar"),
    fixed("wild", "60/minute", "*middle*end"),
    {"key": "nested", "value": "a*", "descriptors": [fixed("wild", "7/hour", "/x/*/y/*"), fixed("wild", "8/hour")]},
    fixed("shared", "3/hour", "/api/*", share_threshold=True),
    fixed("own", "3/hour", "/api/*"),
]


def domain(*descriptors):
    return gateway(rate_limit_domains={DOMAIN: {"descriptors": list(descriptors)}})


def request(*descriptors, hits=0, limit=None, negative=False, own=None):
    sent = ratelimit_pb2.RateLimitRequest(domain=DOMAIN, hits_addend=hits)
    for entries in descriptors:
        added = sent.descriptors.add(is_negative_hits=negative)
        for key, value in entries.items():
            added.entries.add(key=key, value=value)
        if limit is not None:
            added.limit.requests_per_unit, added.limit.unit = limit
        if own is not None:
            added.hits_addend.value = own
    return sent


class Desk:
    def __init__(self, *descriptors) -> None:
        self.tree = trees(domain(*descriptors))[DOMAIN]
        self.store = MemoryStore(lambda: 1_800_000_000_000)

    async def ask(self, *descriptors, **more):
        planned = plan(self.tree, request(*descriptors, **more))
        return answer(planned, await self.store.take(planned.counters, 1), ietf_headers=False)

    async def codes(self, count, *descriptors, **more):
        return [(await self.ask(*descriptors, **more)).overall_code for _ in range(count)]


def found(descriptors, entries):
    match = trees(domain(*descriptors))[DOMAIN].match(list(entries.items()))
    return [f"{limit.requests}/{limit.unit}" for limit in match.limits] if match else []


@pytest.mark.parametrize(
    ("entries", "limits"),
    [
        ({"key1": "something"}, []),
        ({"key1": "value1"}, []),
        ({"key2": "value2", "subkey": "subvalue"}, []),
        ({"key5": "value5", "subkey5": "subvalue"}, []),
        ({"key1": "value1", "subkey1": "something"}, ["5/second"]),
        ({"key1": "value1", "subkey1": "subvalue1"}, ["10/second"]),
        ({"key1": "value1", "subkey1": "subvalue1", "more": "x"}, []),
        ({"key2": "something"}, ["20/minute"]),
        ({"key2": "value2"}, ["30/minute"]),
        ({"key2": "value3"}, []),
        ({"key2": ""}, ["20/minute"]),
        ({"key3": "foo"}, ["1/hour"]),
        ({"key5": "value5"}, ["15/day"]),
        ({"key5": "value5", "subkey5": "subvalue5"}, ["25/day"]),
        ({"key6": "foo"}, []),
        ({"unheard": "of"}, []),
    ],
)
def test_a_descriptor_finds_its_limit(entries, limits):
    assert found(BASIC, entries) == limits


@pytest.mark.parametrize(
    ("entries", "limits"),
    [
        ({"noVal": "foo1"}, ["30/minute"]),
        ({"wild": "foo1"}, ["20/minute"]),
        ({"wild": "foo2"}, ["20/minute"]),
        ({"wild": "foo"}, ["20/minute"]),
        ({"wild": "foobar"}, ["40/minute"]),
        ({"wild": "fo"}, []),
        ({"wild": "a middle and an end"}, ["60/minute"]),
        ({"wild": "foo middle end"}, ["20/minute"]),
        ({"wild": "an end middle"}, []),
        ({"nested": "abc", "wild": "/x/1/y/2"}, ["7/hour"]),
        ({"nested": "abc", "wild": "/x/y/"}, ["8/hour"]),
        ({"nested": "bc", "wild": "/x/1/y/2"}, []),
    ],
)
def test_values_with_stars_come_after_exact_ones_and_in_their_order(entries, limits):
    assert found(WILD, entries) == limits


@given(st.lists(st.text("ab", max_size=2), min_size=2, max_size=4), st.text("ab", max_size=8))
def test_a_pattern_takes_what_it_says(pieces, value):
    import re

    pattern = Pattern("k", tuple(pieces), Node(exact={}, by_key={}))
    assert pattern.takes(("k", value)) == bool(re.fullmatch(".*".join(pieces), value))


async def test_values_share_a_threshold_where_it_says_so():
    desk = Desk(*WILD)
    values = ["/api/a", "/api/b", "/api/c", "/api/d"]
    assert [(await desk.ask({"shared": value})).overall_code for value in values] == [1, 1, 1, 2]
    assert [(await desk.ask({"own": value})).overall_code for value in values] == [1, 1, 1, 1]
    assert await desk.codes(3, {"own": "/api/a"}) == [1, 1, 2]


async def test_shadow_and_unlimited():
    desk = Desk(fixed("quiet", "1/hour", shadow=True), {"key": "free", "unlimited": True}, fixed("loud", "1/hour"))
    assert await desk.codes(3, {"quiet": "x"}) == [1, 1, 1]
    assert await desk.codes(3, {"free": "x"}) == [1, 1, 1]
    assert await desk.codes(2, {"loud": "x"}) == [1, 2]


async def test_a_limit_replaces_others_of_the_same_request():
    desk = Desk(
        fixed("everybody", "1/hour", name="all"),
        fixed("vip", "3/hour", replaces=["all"]),
        {"key": "staff", "unlimited": True, "replaces": ["all"]},
    )
    assert await desk.codes(2, {"everybody": "x"}) == [1, 2]
    assert await desk.codes(4, {"everybody": "x"}, {"vip": "y"}) == [1, 1, 1, 2]
    assert await desk.codes(4, {"everybody": "x"}, {"staff": "y"}) == [1] * 4


async def test_what_envoy_says_the_limit_is():
    hour, day = 3, 4
    desk = Desk(fixed("key", "1/hour", shadow=True))
    assert await desk.codes(3, {"key": "x"}, limit=(2, hour)) == [1, 1, 2], "whatever is configured, never in shadow"
    assert await desk.codes(2, {"key": "x"}, limit=(3, hour)) == [1, 2], "the number changed, the count did not"
    assert await desk.codes(1, {"key": "x"}, limit=(1, day)) == [1], "another unit is another counter"
    assert await desk.codes(2, {"never": "heard", "of": "it"}, limit=(1, hour)) == [1, 2]
    assert await desk.codes(2, {"key": "y"}, limit=(0, 0)) == [1, 1], "a limit without a unit is none"
    assert (await desk.ask({"key": "z"}, limit=(2, hour))).statuses[0].current_limit.requests_per_unit == 2


def test_our_own_limits_are_what_the_document_says_whatever_envoy_does():
    sent = request({"tier": "free", "client": "c"}, limit=(10**6, 1))
    planned = plan(view().limits, sent)
    assert [counter.limit for counter in planned.counters] == [3, 100]


async def test_refunds():
    desk = Desk(fixed("key", "2/hour"))
    assert await desk.codes(3, {"key": "x"}) == [1, 1, 2]
    assert await desk.codes(1, {"key": "x"}, negative=True) == [1]
    assert await desk.codes(2, {"key": "x"}) == [1, 2]
    assert await desk.codes(1, {"key": "x"}, negative=True, own=2**64 - 1) == [1]
    assert await desk.codes(3, {"key": "x"}) == [1, 1, 2], "never more than was charged"


def test_a_refund_is_read_from_what_envoy_sends():
    """`is_negative_hits` is field 4 of the descriptor: 0x20 0x01. Messages without it would take it for a charge."""
    sent = bytes.fromhex("120a0a060a016b1201762001")
    assert ratelimit_pb2.RateLimitRequest.FromString(sent).descriptors[0].is_negative_hits


def test_the_generated_code_is_that_of_the_contract(tmp_path):
    from grpc_tools import protoc

    root = Path(ratelimit_pb2.__file__).parents[4]
    source = "protos/tollhouse/ratelimit/v1/ratelimit.proto"
    include = Path(protoc.__file__).parent / "_proto"
    options = [f"-I{root}", f"-I{include}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    assert protoc.main(["", *options, str(root / source)]) == 0
    for made in tmp_path.rglob("*_pb2.py*"):
        assert made.read_text() == (root / made.relative_to(tmp_path)).read_text()


def test_domains_do_not_share_counters_with_each_other_or_with_us():
    descriptors = [fixed("tier", "1/hour", descriptors=[fixed("client", "1/hour")])]
    made = gateway(rate_limit_domains={name: {"descriptors": descriptors} for name in ("a", "b")})
    entries = [("tier", "free"), ("client", "c")]
    keys = {tree.match(entries).key for tree in (*trees(made).values(), view().limits)}
    assert len(keys) == 3


# ----------------------------------------------------------------------------------------------------- the service
def serving(store, **changes):
    metrics = Metrics(CollectorRegistry())
    return RateLimit(Views(view(**changes)), store, metrics), metrics


def counted(metrics, result="ok"):
    return {
        sample.labels["rule"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "gw_ratelimit_decisions_total" and sample.labels["result"] == result
    }


async def test_metrics_have_values_of_requests_only_where_asked_and_not_for_ever():
    descriptors = [*BASIC, {"key": "a", "value_to_metric": True, "descriptors": [fixed("b", "5/hour")]}]
    service, metrics = serving(MemoryStore(), rate_limit_domains={DOMAIN: {"descriptors": descriptors}})
    for entries in ({"key2": "x"}, {"key2": "value2"}, {"key7": "seen"}, {"a": "1", "b": "2"}):
        await service.decide(request(entries), 1)
    assert list(counted(metrics)) == ["fleet:key2", "fleet:key2=value2", "fleet:key7=seen", "fleet:a=1/b"]
    for number in range(DETAILS + 10):
        await service.decide(request({"key7": str(number)}), 1)
    assert len(counted(metrics)) == 2 + DETAILS + 1
    assert counted(metrics)["other"] == 12


async def test_who_is_near_a_limit_is_counted():
    service, metrics = serving(MemoryStore(), rate_limit_domains={DOMAIN: {"descriptors": [fixed("k", "10/hour")]}})
    for _ in range(12):
        await service.decide(request({"k": "x"}), 1)
    near = [s for f in metrics.registry.collect() for s in f.samples if s.name == "gw_ratelimit_near_limit_total"]
    assert [(sample.labels["rule"], sample.value) for sample in near] == [("fleet:k", 2)]


class Gone:
    async def take(self, counters, timeout):  # noqa: ASYNC109 - see Store
        raise Unavailable("gone")


@pytest.mark.parametrize(
    ("said", "default", "code"),
    [
        ([None], "allow", None),
        ([None], "deny", None),
        (["deny"], "allow", 2),
        (["deny"], "deny", None),
        (["allow"], "deny", 1),
        (["allow"], "allow", None),
        (["allow", None], "deny", None),
        (["allow", "deny"], "allow", 2),
    ],
)
async def test_each_limit_says_what_happens_while_nobody_can_count(said, default, code):
    limits = [{"limit": f"{n}/hour", **({"on_error": word} if word else {})} for n, word in enumerate(said, 1)]
    service, _ = serving(
        Gone(), tiers={"free": {"rate_limits": limits}}, modules={}, rate_limit_defaults={"on_error": default}
    )
    sent = request({"tier": "free", "client": "c"})
    sent.domain = "tollhouse"
    if code is None:
        with pytest.raises(Unavailable):
            await service.decide(sent, 1)
        return
    answered = await service.decide(sent, 1)
    assert (answered.overall_code, [status.code for status in answered.statuses]) == (code, [code])
    assert bool(answered.response_headers_to_add) == (code == 2)


async def test_a_cost_that_comes_later():
    limits = [{"limit": "100/hour", "cost_from": "response_header:x-tokens", "cost": 2}, {"limit": "50/hour"}]
    desk = Desk(fixed("unused", "1/hour"))
    desk.tree = view(tiers={"free": {"rate_limits": limits}}, modules={}).limits
    asked = {"tier": "free", "client": "c"}
    used = asked | {"cost": "response_header:x-tokens"}
    first = await desk.ask(asked)
    assert (first.overall_code, first.statuses[0].limit_remaining) == (1, 49), "nothing but the request itself so far"
    await desk.ask(used, own=70)
    assert (await desk.ask(asked)).overall_code == 2, "overdrawn by the last one"
    await desk.ask(used, own=5, negative=True)
    assert (await desk.ask(asked)).overall_code == 2
    await desk.ask(used, own=20, negative=True)
    assert (await desk.ask(asked)).overall_code == 1
    assert (await desk.ask(asked | {"cost": "response_bytes"}, own=10**9)).overall_code == 1, "nothing costs that"
    assert (await desk.ask(asked)).overall_code == 1
