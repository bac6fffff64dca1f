"""Shares of a quota: reports and the clock in, shares out. What may be out at any time, whatever happens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway import quotas
from gateway.quotas import Quota
from policy.quota.shares import TTL, Share, Shares, parted


def quota(requests: int = 50, seconds: int = 1, burst: int | None = None) -> Quota:
    whole = burst or max(1, -(-requests // seconds))
    return Quota(("route_limit", "m/r/0"), (), requests, seconds, whole, "m/r/0")


def test_the_first_gets_all_and_the_second_his_part_at_once() -> None:
    shares: Shares[str] = Shares(quota(50))
    shares.report("a", 1, 0)
    assert shares.assign(0, ("a",)) == {"a": Share(100, 50)}
    shares.report("a", 500, 5)
    shares.assign(5, ("a",))
    shares.report("b", 1, 6)
    told = shares.assign(6, ("b",))
    assert list(told) == ["a", "b"], "who has less hears of it first"
    assert told == {"a": Share(50, 25), "b": Share(50, 25)}


def test_shares_follow_demand_and_a_tenth_is_even() -> None:
    shares: Shares[str] = Shares(quota(50))
    for envoy in "ab":
        shares.report(envoy, 1, 0)
    shares.assign(0)
    shares.report("a", 900, 5)
    shares.report("b", 100, 5)
    assert shares.assign(5) == {"b": Share(14, 7), "a": Share(86, 43)}
    shares.report("a", 900, 10)
    shares.report("b", 102, 10)
    assert shares.assign(10, ("a",)) == {"a": Share(86, 43)}, "renewed, and the other's is left as it is"


def test_what_somebody_took_along_returns_when_it_expires() -> None:
    shares: Shares[str] = Shares(quota(50))
    for envoy in "ab":
        shares.report(envoy, 1, 0)
    shares.assign(0)
    shares.leave("a", 1)
    assert shares.assign(1) == {"b": Share(75, 37)}
    assert shares.due == TTL
    shares.report("b", 10, 5)
    assert shares.assign(5, ("b",)) == {"b": Share(75, 37)}
    shares.report("b", 10, 14)
    assert shares.assign(TTL) == {"b": Share(100, 50)}


def test_who_restarts_alone_does_not_wait_for_himself() -> None:
    shares: Shares[str] = Shares(quota(50))
    shares.report("before", 1, 0)
    shares.assign(0)
    shares.leave("before", 1)
    shares.report("after", 1, 2)
    assert shares.assign(2) == {"after": Share(50, 25)}
    shares.report("after", 100, 7)
    shares.report("after", 100, 12)
    assert shares.assign(TTL) == {"after": Share(100, 50)}


def test_who_comes_back_takes_up_what_he_has() -> None:
    shares: Shares[str] = Shares(quota(50))
    shares.report("a", 1, 0)
    shares.assign(0)
    shares.leave("a", 1)
    shares.report("a again", 90, 5, elapsed=5)
    assert shares.assign(5) == {"a again": Share(100, 50)}
    assert shares.granted == 100


def test_who_says_nothing_for_long_has_gone() -> None:
    shares: Shares[str] = Shares(quota(50))
    for envoy in "ab":
        shares.report(envoy, 1, 0)
    shares.assign(0)
    for now in (5, 10):
        shares.report("b", 100, now)
        shares.assign(now, ("b",))
    assert shares.due <= TTL
    assert list(shares.assign(TTL)) == ["b"]
    assert list(shares) == ["b"]


@pytest.mark.parametrize(("burst", "idle_after"), [(50, 15), (1500, 30)])
def test_idle_after_three_reports_and_not_before_the_bucket_is_full(burst: int, idle_after: int) -> None:
    shares: Shares[str] = Shares(quota(50, burst=burst))
    shares.report("a", 1, 0)
    for now in range(5, idle_after, 5):
        shares.report("a", 0, now)
        assert not shares.idle("a", now)
    shares.report("a", 0, idle_after)
    assert shares.idle("a", idle_after)
    shares.abandon("a")
    assert not shares


@given(st.integers(0, 10_000), st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_parts_add_up_and_nobody_starves(whole: int, weights: list[float]) -> None:
    parts = parted(whole, weights)
    assert sum(parts) <= whole
    assert sum(parts) == whole or whole < len(weights)
    assert all(parts) or whole < len(weights)


class Anything(RuleBasedStateMachine):
    """Envoys that come, report, fall silent, go and come back; each uses what it was last told until that expires."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.quota = quota(50)
        self.shares: Shares[int] = Shares(self.quota)
        self.held: dict[int, tuple[int, float]] = {}
        self.present: set[int] = set()
        self.known = 0

    def hear(self, renew: tuple[int, ...] = ()) -> None:
        for envoy, share in self.shares.assign(self.now, renew).items():
            self.held[envoy] = (share.tokens, self.now + TTL)

    def gone(self) -> set[int]:
        """Whose shares are still out."""
        return {envoy for envoy, (_, until) in self.held.items() if until > self.now} - self.present

    @rule(elapsed=st.floats(0.01, 6))
    def wait(self, elapsed: float) -> None:
        self.now += elapsed
        if self.shares.due <= self.now:
            self.hear()
        self.present &= set(self.shares)

    @rule(hits=st.integers(0, 1000))
    @precondition(lambda self: len(self.present) < 6)
    def join(self, hits: int) -> None:
        self.known += 1
        self.present.add(self.known)
        self.shares.report(self.known, hits, self.now)
        self.hear((self.known,))
        if not self.gone():
            assert self.held[self.known][0] > 0, "a newcomer begins at once"

    @rule(data=st.data(), hits=st.integers(0, 1000))
    @precondition(lambda self: self.present)
    def report(self, data: st.DataObject, hits: int) -> None:
        envoy = data.draw(st.sampled_from(sorted(self.present)))
        self.shares.report(envoy, hits, self.now)
        self.hear((envoy,))

    @rule(data=st.data())
    @precondition(lambda self: self.present)
    def leave(self, data: st.DataObject) -> None:
        envoy = data.draw(st.sampled_from(sorted(self.present)))
        self.present.discard(envoy)
        self.shares.leave(envoy, self.now)
        self.hear()

    @rule(data=st.data())
    @precondition(lambda self: self.present)
    def abandon(self, data: st.DataObject) -> None:
        envoy = data.draw(st.sampled_from(sorted(self.present)))
        self.present.discard(envoy)
        del self.held[envoy]
        self.shares.abandon(envoy)
        self.hear()

    @invariant()
    def no_more_is_out_than_was_said(self) -> None:
        whole = quotas.tokens(self.quota)
        out = sum(tokens for tokens, until in self.held.values() if until > self.now)
        assert out <= whole + sum(self.held[envoy][0] for envoy in self.gone()) / 2
        assert out <= 2 * whole


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
