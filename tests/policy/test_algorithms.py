"""What each algorithm promises of any hits (docs/decisions.md), in memory, which computes as the script does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.scalars import UNIT_SECONDS
from policy.ratelimit import pace
from policy.ratelimit.memory import MemoryStore
from policy.ratelimit.store import FIXED, GCRA, LARGEST, LOG, SLIDING, Counter

START = 1_800_000_000_000
LENGTH = 1000
BURST = 3
ALGORITHMS = st.sampled_from([SLIDING, FIXED, LOG, GCRA])
STEPS = st.lists(st.tuples(st.integers(0, 700), st.integers(1, 3)), max_size=60)
JUMPY = st.lists(st.tuples(st.integers(-900, 700), st.integers(1, 3)), max_size=60)


def of(algorithm: int, limit: int, hits: int = 1, length: int = LENGTH, key: str = "rl:k") -> Counter:
    return Counter(key, length, limit, max(hits, 1), hits, True, BURST if algorithm == GCRA else 0, algorithm)


def finished(work):
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


class Desk:
    def __init__(self, now: int = START) -> None:
        self.now = now
        self.store = MemoryStore(lambda: self.now)
        self.admitted: list[int] = []

    def take(self, *counters: Counter):
        taken = finished(self.store.take(counters, 1))
        if taken.admitted:
            self.admitted += [self.now] * sum(max(counter.charge, 0) for counter in counters)
        return taken

    def remaining(self, counter: Counter) -> int:
        asking = counter._replace(need=1, charge=0)
        taken = self.take(asking)
        return pace.remaining(asking, taken.readings[0].state, taken.now)


def most(algorithm: int, limit: int, elapsed: int) -> float:
    """In a stretch of one length that ends `elapsed` milliseconds into a window."""
    bounds = {SLIDING: limit * (1 + elapsed / LENGTH), FIXED: 2 * limit, LOG: limit, GCRA: limit + BURST}
    return bounds[algorithm]


@settings(max_examples=200, deadline=None)
@given(ALGORITHMS, st.integers(1, 8), STEPS)
def test_no_stretch_sees_more_than_its_algorithm_promises(algorithm, limit, steps):
    desk = Desk()
    for pause, hits in steps:
        desk.now += pause
        desk.take(of(algorithm, limit, hits))
    for at in desk.admitted:
        assert sum(at - LENGTH < other <= at for other in desk.admitted) <= most(algorithm, limit, at % LENGTH)
        if algorithm in (SLIDING, FIXED):
            assert sum(at // LENGTH == other // LENGTH for other in desk.admitted) <= limit


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 8), STEPS)
def test_a_log_refuses_nothing_that_fits(limit, steps):
    desk = Desk()
    for pause, hits in steps:
        desk.now += pause
        used = sum(desk.now - LENGTH < at for at in desk.admitted)
        assert desk.take(of(LOG, limit, hits)).admitted == (used + hits <= limit)


@settings(max_examples=200, deadline=None)
@given(ALGORITHMS, st.integers(1, 8), STEPS, st.integers(1, 4))
def test_retry_after_is_enough_and_not_a_millisecond_too_long(algorithm, limit, steps, need):
    desk = Desk()
    for pause, hits in steps:
        desk.now += pause
        desk.take(of(algorithm, limit, hits))
    one = of(algorithm, limit, need)
    taken = desk.take(one)
    if taken.admitted or need > (one.burst or limit):
        return
    wait = pace.wait(one, taken.readings[0].state, taken.now, need)
    desk.now += wait - 1
    assert not desk.take(one).admitted
    desk.now += 1
    assert desk.take(one).admitted


@settings(max_examples=200, deadline=None)
@given(ALGORITHMS, st.integers(1, 8), JUMPY)
def test_remaining_never_rises_without_time_or_a_refund_and_asking_changes_nothing(algorithm, limit, steps):
    desk, one = Desk(), of(algorithm, limit)
    for pause, hits in steps:
        desk.now += pause
        before = desk.remaining(one)
        assert desk.remaining(one) == before
        taken = desk.take(of(algorithm, limit, hits))
        assert desk.remaining(one) == (before - hits if taken.admitted else before)


@settings(max_examples=200, deadline=None)
@given(ALGORITHMS, st.integers(1, 8), JUMPY, st.integers(1, 2**33))
def test_a_refund_gives_back_no_more_than_was_charged(algorithm, limit, steps, back):
    desk, one = Desk(), of(algorithm, limit)
    for pause, hits in steps:
        desk.now += pause
        desk.take(of(algorithm, limit, hits))
    before = desk.remaining(one)
    desk.take(one._replace(need=0, charge=-back))
    assert before <= desk.remaining(one) <= min(one.burst or limit, before + back)


@settings(max_examples=100, deadline=None)
@given(ALGORITHMS, st.integers(1, 8), STEPS, st.integers(1, 900))
def test_a_clock_that_goes_back_gives_nothing_away(algorithm, limit, steps, back):
    desk, one = Desk(), of(algorithm, limit)
    for pause, hits in steps:
        desk.now += pause
        desk.take(of(algorithm, limit, hits))
    before = desk.remaining(one)
    desk.now -= back
    assert desk.remaining(one) <= before


@pytest.mark.parametrize("seconds", UNIT_SECONDS.values(), ids=UNIT_SECONDS)
@pytest.mark.parametrize("algorithm", [SLIDING, FIXED, LOG, GCRA])
def test_at_the_edges_of_every_unit(algorithm, seconds):
    """A window's last millisecond and its first, also of 29 February 2028: windows are so many seconds long."""
    length = seconds * 1000
    for day in (START, 1_835_395_200_000):
        edge = -(-day // length) * length
        desk, limit = Desk(edge - 1), BURST
        one = of(algorithm, limit, length=length)
        assert [desk.take(one).admitted for _ in range(limit + 1)] == [True] * limit + [False]
        desk.now = edge
        assert desk.take(one).admitted == (algorithm == FIXED)
        desk.now = edge + 2 * length
        assert desk.take(one).admitted


@pytest.mark.parametrize("algorithm", [SLIDING, FIXED, LOG, GCRA])
def test_a_limit_that_changes_in_the_middle_of_its_window(algorithm):
    desk = Desk()
    for _ in range(3):
        assert desk.take(of(algorithm, 5)).admitted
    lower = of(algorithm, 2)
    lower = lower._replace(burst=2) if algorithm == GCRA else lower
    assert not desk.take(lower).admitted
    higher = of(algorithm, 10)
    higher = higher._replace(burst=10) if algorithm == GCRA else higher
    assert [desk.take(higher).admitted for _ in range(8)] == [True] * 7 + [False]


@pytest.mark.parametrize("algorithm", [SLIDING, FIXED, LOG, GCRA])
@pytest.mark.parametrize("hits", [2**32 - 1, LARGEST])
def test_a_huge_addend_is_refused_and_does_no_harm(algorithm, hits):
    desk, one = Desk(), of(algorithm, 5)
    assert not desk.take(one._replace(need=hits, charge=hits)).admitted
    assert desk.take(one).admitted


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(ALGORITHMS, st.integers(0, 4), st.integers(0, 3)), min_size=2, max_size=4), st.randoms())
def test_the_order_of_counters_does_not_matter(wanted, random):
    counters = [of(a, max(limit, 1), hits, key=f"rl:{n}") for n, (a, limit, hits) in enumerate(wanted)]
    other = random.sample(range(len(counters)), len(counters))
    one, two = Desk(), Desk()
    for _ in range(4):
        first, second = one.take(*counters), two.take(*(counters[n] for n in other))
        assert first.admitted == second.admitted
        assert [first.readings[n] for n in other] == list(second.readings)
