"""The sliding window's arithmetic, against what it promises and against a slow model that keeps every hit."""

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.scalars import UNIT_SECONDS
from policy.ratelimit import window
from policy.ratelimit.window import State

LENGTHS = [seconds * 1000 for seconds in UNIT_SECONDS.values()]
lengths = st.sampled_from(LENGTHS)
limits = st.one_of(st.integers(0, 20), st.integers(0, 2**32 - 1))
starts = st.integers(1_000_000_000_000, 4_000_000_000_000)


@st.composite
def states(draw: st.DrawFn) -> tuple[State, int, int, int]:
    """A state as it can be at `now`, the window's length and a limit that its counts never passed."""
    length, now, limit = draw(lengths), draw(starts), draw(limits)
    return State(now // length, draw(st.integers(0, limit)), draw(st.integers(0, limit))), now, length, limit


@given(states())
def test_rounding_is_against_the_caller_and_by_less_than_one_step(given_state):
    state, now, length, _ = given_state
    exact = Fraction(state.previous * (length - now % length), length) + state.current
    used = window.used(state, now, length)
    assert exact <= used < exact + 1 + Fraction(state.previous, window.SCALE)


@given(states(), st.integers(1, 50))
def test_waiting_is_enough_and_not_a_millisecond_too_long(given_state, need):
    state, now, length, limit = given_state
    if need > limit:
        assert window.wait(state, now, length, limit, need) == length
        return
    wait = window.wait(state, now, length, limit, need)

    def fits_after(milliseconds: int) -> bool:
        later = now + milliseconds
        return window.fits(window.rolled(state, later, length), later, length, limit, need)

    assert fits_after(wait)
    assert (wait == 0) == window.fits(state, now, length, limit, need)
    assert wait == 0 or not fits_after(wait - 1)


@settings(max_examples=150)
@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(0, 700), st.integers(1, 3)), max_size=120),
    starts,
)
def test_no_window_of_the_clock_and_no_stretch_of_its_length_gets_more_than_promised(limit, hits, start):
    length, now, state, admitted = 1000, start, None, []
    for pause, need in hits:
        now += pause
        state = window.rolled(state, now, length)
        if window.fits(state, now, length, limit, need):
            state = window.charged(state, need)
            admitted += [now] * need
    for at in admitted:
        assert sum(at // length == other // length for other in admitted) <= limit
        elapsed = Fraction(at % length, length)
        assert sum(at - length < other <= at for other in admitted) <= limit * (1 + elapsed)


@given(states(), st.integers(1, 400_000))
def test_remaining_falls_with_hits_and_rises_with_time_only(given_state, pause):
    state, now, length, limit = given_state
    before = window.remaining(state, now, length, limit)
    assert window.remaining(window.charged(state, 1), now, length, limit) <= before
    if (now + pause) // length == state.window:
        assert window.remaining(state, now + pause, length, limit) >= before


@given(states(), st.integers(1, 10**13))
def test_a_clock_that_goes_back_gives_nothing_and_never_blocks_for_longer_than_two_windows(given_state, back):
    state, now, length, limit = given_state
    earlier = now - back
    rolled = window.rolled(state, earlier, length)
    if state.window - earlier // length <= 1:
        assert window.remaining(rolled, earlier, length, limit) <= window.remaining(state, now, length, limit)
    assert window.wait(rolled, earlier, length, max(limit, 1), 1) <= 3 * length


def test_counts_saturate_below_what_a_double_holds_exactly():
    state = window.charged(State(0, 0, window.CEILING - 1), 2**64)
    assert state.current == window.CEILING
    assert window.CEILING * window.SCALE < 2**53


def test_at_the_edge_of_a_window_the_whole_window_before_counts():
    state = window.rolled(State(7, 0, 100), 8 * 3_600_000, 3_600_000)
    assert state == State(8, 100, 0)
    assert window.remaining(state, 8 * 3_600_000, 3_600_000, 100) == 0
    assert window.rolled(State(7, 0, 100), 9 * 3_600_000, 3_600_000) == State(9, 0, 0)


def test_every_unit_keeps_exact_in_a_double():
    for length in LENGTHS:
        assert length * window.SCALE < 2**53
