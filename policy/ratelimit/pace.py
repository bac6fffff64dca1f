"""How a counter counts: one of four algorithms, behind one set of questions.

A fixed window is a sliding one that does not remember the window before. A log keeps more than a triple of numbers
(`policy.ratelimit.log`): the stores roll and charge it themselves.
"""

from policy.ratelimit import bucket, log, window
from policy.ratelimit.store import FIXED, GCRA, LOG, Counter
from policy.ratelimit.window import State


def rolled(counter: Counter, stored: State | None, now: int) -> State:
    """The counter's state as of `now`."""
    if counter.algorithm == GCRA:
        return bucket.rolled(stored, now, counter.length, counter.limit)
    if counter.algorithm == LOG:
        return log.rolled(stored, now)
    state = window.rolled(stored, now, counter.length)
    return State(state.window, 0, state.current) if counter.algorithm == FIXED else state


def fits(counter: Counter, state: State, now: int) -> bool:
    """Whether what the counter needs fits, for a state that was rolled to `now`. No need (a refund) always does."""
    if counter.need <= 0:
        return True
    if counter.algorithm == GCRA:
        return bucket.fits(state, counter.length, counter.burst, counter.need)
    if counter.algorithm == LOG:
        return state.current + counter.need <= counter.limit
    return window.fits(state, now, counter.length, counter.limit, counter.need)


def charged(counter: Counter, state: State) -> State:
    """Not for logs."""
    if counter.algorithm == GCRA:
        return bucket.charged(state, counter.length, counter.charge)
    return window.charged(state, counter.charge)


def remaining(counter: Counter, state: State, now: int) -> int:
    """How many hits would fit now."""
    if counter.algorithm == GCRA:
        return bucket.remaining(state, now, counter.length, counter.limit, counter.burst)
    if counter.algorithm == LOG:
        return max(0, counter.limit - state.current)
    return window.remaining(state, now, counter.length, counter.limit)


def wait(counter: Counter, state: State, now: int, need: int) -> int:
    """The least number of milliseconds after which `need` hits fit if nobody else spends any.

    A log knows it for what the request needed if that did not fit, else for one hit.
    """
    if counter.algorithm == GCRA:
        return bucket.wait(state, now, counter.length, counter.limit, counter.burst, need)
    if counter.algorithm == LOG:
        return max(0, state.window - now)
    if counter.algorithm == FIXED:
        return window.wait_fixed(state, now, counter.length, counter.limit, need)
    return window.wait(state, now, counter.length, counter.limit, need)


def until_next(counter: Counter, state: State, now: int) -> int:
    """Milliseconds until the caller can do all again that it ever can: the window ends, the bucket is empty."""
    if counter.algorithm == GCRA:
        return bucket.until_full(state, now, counter.limit)
    if counter.algorithm == LOG:
        return max(0, state.previous - now)
    return window.until_next(state, now, counter.length)


def lifetime(counter: Counter, state: State, now: int) -> int:
    """Milliseconds for which the state can still matter; a clock may step back."""
    if counter.algorithm == GCRA:
        return bucket.until_full(state, now, counter.limit) + counter.length
    if counter.algorithm == LOG:
        return state.previous - now + counter.length
    return window.lifetime(state, now, counter.length)
