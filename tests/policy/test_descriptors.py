"""From descriptors to counters to the response, without a server."""

import pytest
from envoy.service.ratelimit.v3 import rls_pb2
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.resolve import resolve
from policy.ratelimit import tree
from policy.ratelimit.answer import UNITS, answer
from policy.ratelimit.memory import MemoryStore
from policy.ratelimit.plan import plan
from protos.tollhouse.ratelimit.v1 import ratelimit_pb2

from .facts_of import gateway, limit_request, view

R = rls_pb2.RateLimitResponse
START = 1_800_000_000_000 - 1_800_000_000_000 % 86_400_000


def free(client="c_1", tier="free"):
    return {"tier": tier, "client": client}


def received(request: rls_pb2.RateLimitRequest) -> ratelimit_pb2.RateLimitRequest:
    """Envoy's message as the service reads it."""
    return ratelimit_pb2.RateLimitRequest.FromString(request.SerializeToString())


class Desk:
    """The service without its server: a view, a store and a clock."""

    def __init__(self, **changes) -> None:
        self.view = view(**changes)
        self.now = START
        self.store = MemoryStore(lambda: self.now)

    async def ask(self, *descriptors, hits=0):
        planned = plan(self.view.limits, received(limit_request(*descriptors, hits=hits)))
        taken = await self.store.take(planned.counters, 1)
        return answer(planned, taken, ietf_headers=self.view.ietf_headers)


def headers(response) -> dict[str, str]:
    return {h.key: h.value for h in response.response_headers_to_add}


# --------------------------------------------------------------------------------------------------------- tree
def suffixes(entries) -> list[str]:
    found = view().limits.match(entries)
    return [f"{limit.requests}/{limit.unit}" for limit in found.limits] if found else []


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ([("tier", "free"), ("client", "a")], ["3/hour", "100/day"]),
        ([("tier", "gold"), ("client", "a")], ["50/minute"]),
        ([("tier", "staff"), ("client", "a")], []),
        ([("tier", "no-such-tier"), ("client", "a")], ["3/hour", "100/day"]),
        ([("anonymous_tier", "free"), ("remote_address", "1.2.3.4")], ["3/hour", "100/day"]),
        ([("tier", "free"), ("remote_address", "1.2.3.4")], []),
        ([("tier", "free")], []),
        ([("tier", "free"), ("client", "a"), ("route", "r")], []),
        ([("client", "a"), ("tier", "free")], []),
        ([("route_limit", "orders/create/burst"), ("client", "a"), ("claim:org", "x")], ["2/minute"]),
        ([("route_limit", "orders/create/burst"), ("client", "a")], []),
        ([("route_limit", "orders/create/other"), ("client", "a")], []),
        ([("route_limit", "status/ping/0"), ("route", "status/ping")], ["1000/second"]),
    ],
)
def test_matching_reaches_the_last_entry_or_nothing(entries, found):
    assert suffixes(entries) == found


def test_every_limit_of_the_document_is_found_by_the_descriptor_that_the_compiler_makes_for_it():
    the_gateway, built = gateway(), tree.build(gateway())
    nodes = [*limits.tier_nodes(the_gateway), *(n for r in resolve(the_gateway) for n in limits.route_nodes(r))]
    assert nodes
    for node in nodes:
        found = built.match([node.head, *((key, "v") for key in node.keys)])
        assert [(limit.requests, limit.unit) for limit in found.limits] == [
            (limit.limit.requests, limit.limit.unit) for limit in node.limits
        ]


def test_a_tier_that_does_not_exist_shares_the_counters_of_the_lowest():
    built = view().limits
    assert built.match([("tier", "x"), ("client", "a")]).key == built.match([("tier", "free"), ("client", "a")]).key
    assert built.match([("tier", "gold"), ("client", "a")]).key != built.match([("tier", "free"), ("client", "a")]).key


texts = st.text(max_size=200)


@given(st.lists(st.tuples(texts, texts), max_size=4), st.lists(st.tuples(texts, texts), max_size=4))
def test_no_two_descriptors_have_one_counter_key(one, other):
    def key(entries):
        return "".join(tree.key_part(entry) for entry in entries)

    assert (key(one) == key(other)) == (one == other)


def test_a_long_value_does_not_make_a_long_key():
    assert len(tree.key_part(("client", "x" * 10_000))) < 100


# ------------------------------------------------------------------------------------------------------- answer
def test_units_are_those_of_the_language():
    from gateway.scalars import UNIT_SECONDS

    assert set(UNIT_SECONDS) == set(UNITS) - {"unknown"}


async def test_statuses_come_in_order_with_the_tightest_limit_of_each():
    response = await Desk().ask(free(), {"unheard": "of"}, {"route_limit": "status/ping/0", "route": "status/ping"})
    assert response.overall_code == R.OK
    assert [status.code for status in response.statuses] == [R.OK] * 3
    first, second, third = response.statuses
    assert (first.current_limit.requests_per_unit, first.current_limit.unit) == (3, R.RateLimit.HOUR)
    assert (first.limit_remaining, first.duration_until_reset.seconds) == (2, 3600)
    assert not second.HasField("current_limit")
    assert (third.limit_remaining, third.current_limit.unit) == (999, R.RateLimit.SECOND)
    assert headers(response) == {}


async def test_over_the_limit():
    desk = Desk()
    last = [await desk.ask(free()) for _ in range(3)][-1]
    assert (last.overall_code, last.statuses[0].limit_remaining) == (R.OK, 0)
    response = await desk.ask(free())
    assert response.overall_code == response.statuses[0].code == R.OVER_LIMIT
    # full at 0:00; a third of the next hour must pass before one more fits, plus at most 1/65536 of an hour of rounding
    assert headers(response) == {"retry-after": str(3600 + 1200 + 1)}
    assert response.statuses[0].duration_until_reset.seconds == 4801
    assert response.raw_body == b"Rate limit of 3 per hour exceeded. Retry after 4801 seconds."
    desk.now += 4799 * 1000
    assert (await desk.ask(free())).overall_code == R.OVER_LIMIT
    desk.now += 2000
    assert (await desk.ask(free())).overall_code == R.OK
    assert (await desk.ask(free("c_2"))).overall_code == R.OK


async def test_one_descriptor_over_refuses_the_request_and_charges_none():
    desk = Desk()
    burst = {"route_limit": "orders/create/burst", "client": "c_1", "claim:org": "x"}
    assert (await desk.ask(free(), burst)).overall_code == R.OK  # cost 2 of 2
    response = await desk.ask(free(), burst)
    assert [status.code for status in response.statuses] == [R.OK, R.OVER_LIMIT]
    assert response.statuses[0].limit_remaining == 2
    assert (response.statuses[1].current_limit.name, response.statuses[1].limit_remaining) == ("burst", 0)


async def test_shadow_limits_refuse_nobody_and_are_not_shown():
    desk = Desk()
    watch = {"route_limit": "orders/create/watch", "remote_address": "1.2.3.4"}
    responses = [await desk.ask(watch) for _ in range(3)]
    assert [r.overall_code for r in responses] == [R.OK] * 3
    assert not any(r.statuses[0].HasField("current_limit") for r in responses)
    assert ["would_have_limited" in r.dynamic_metadata for r in responses] == [False, True, True]
    assert list(responses[1].dynamic_metadata["would_have_limited"]) == ["orders/create/watch"]


async def test_unlimited_tiers_pass():
    desk = Desk()
    assert {(await desk.ask(free(tier="staff"))).overall_code for _ in range(200)} == {R.OK}


async def test_hits_of_the_request_and_of_a_descriptor():
    desk = Desk()
    assert (await desk.ask(free(), hits=2)).statuses[0].limit_remaining == 1
    request = limit_request(free(), hits=2)
    request.descriptors[0].hits_addend.value = 0
    for _ in range(3):
        planned = plan(desk.view.limits, received(request))
        taken = await desk.store.take(planned.counters, 1)
        assert (taken.admitted, taken.readings[0].state.current) == (True, 2)
    assert (await desk.ask(free(), hits=2**32 - 1)).overall_code == R.OVER_LIMIT
    request.descriptors[0].hits_addend.value = 2**63
    planned = plan(desk.view.limits, received(request))
    assert not (await desk.store.take(planned.counters, 1)).admitted


async def test_two_descriptors_that_meet_one_counter_add_up():
    desk = Desk()
    response = await desk.ask(free(), free(tier="no-such-tier"))
    assert [status.limit_remaining for status in response.statuses] == [1, 1]
    assert (await desk.ask(free(), free())).overall_code == R.OVER_LIMIT


async def test_ietf_headers_when_the_gateway_wants_them():
    desk = Desk(rate_limit_defaults={"headers": ["draft-ietf"]})
    shown = headers(await desk.ask(free()))
    assert shown == {
        "ratelimit-policy": '"free-hour";q=3;w=3600, "free-day";q=100;w=86400',
        "ratelimit": '"free-hour";r=2;t=3600',
    }
    for _ in range(2):
        await desk.ask(free())
    assert headers(await desk.ask(free())) == {
        "retry-after": "4801",
        "ratelimit-policy": '"free-hour";q=3;w=3600, "free-day";q=100;w=86400',
        "ratelimit": '"free-hour";r=0;t=4801',
    }


async def test_a_changed_number_goes_on_counting_where_it_was():
    desk = Desk()
    for _ in range(3):
        await desk.ask(free())
    changed = {"tiers": {"free": {"rate_limits": [{"limit": "5/hour"}]}}, "modules": {}}
    desk.view = view(**changed)
    assert (await desk.ask(free())).statuses[0].limit_remaining == 1
