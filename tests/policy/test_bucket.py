"""The leaky bucket: its arithmetic against its definition in fractions, and what its waits promise."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from policy.ratelimit import bucket
from policy.ratelimit.window import State

LENGTHS = st.sampled_from([1_000, 60_000, 3_600_000, 31_536_000_000])
LIMITS = st.one_of(st.integers(1, 1000), st.just(2**32 - 1))
BURSTS = st.integers(1, 100)
STEPS = st.lists(st.tuples(st.integers(0, 100_000), st.integers(1, 5)), max_size=30)


@given(LENGTHS, LIMITS, BURSTS, STEPS)
def test_the_level_is_that_of_a_bucket_that_leaks_evenly(length: int, limit: int, burst: int, steps: list) -> None:
    now, level, at = 0, Fraction(0), 0
    state: State | None = None
    for pause, need in steps:
        now += pause
        level = max(Fraction(0), level - Fraction(limit * (now - at), length))
        at = now
        state = bucket.rolled(state, now, length, limit)
        assert Fraction(state.current, length) == level
        fits = level + need <= burst
        assert bucket.fits(state, length, burst, need) == fits
        if fits:
            level += need
            state = bucket.charged(state, length, need)


@given(LENGTHS, LIMITS, BURSTS, st.integers(0, 100), st.integers(1, 100), st.integers(0, 10_000))
def test_a_wait_is_enough_and_no_longer_than_needed(
    length: int, limit: int, burst: int, used: int, need: int, pause: int
) -> None:
    state = State(0, 0, min(used, burst) * length)
    if need > burst:
        assert bucket.wait(state, pause, length, limit, burst, need) == length
        return
    wait = bucket.wait(state, pause, length, limit, burst, need)

    def fits_at(now: int) -> bool:
        return bucket.fits(bucket.rolled(state, now, length, limit), length, burst, need)

    assert fits_at(pause + wait)
    assert wait == 0 or not fits_at(pause + wait - 1)


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    state = State(50_000, 0, 300_000)
    assert bucket.rolled(state, 40_000, 60_000, 60) == state
    assert bucket.rolled(state, -50_000, 60_000, 60) == State(-50_000, 0, 300_000)
    assert bucket.remaining(state, 40_000, 60_000, 60, 5) == 0
    assert bucket.until_full(state, 50_000, 60) == 5_000
