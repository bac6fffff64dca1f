"""How a counter counts: in a sliding window, or, where its limit has a burst, in a leaky bucket."""

from policy.ratelimit import bucket, window
from policy.ratelimit.store import Counter
from policy.ratelimit.window import State


def rolled(counter: Counter, stored: State | None, now: int) -> State:
    """The counter's state as of `now`."""
    if counter.burst:
        return bucket.rolled(stored, now, counter.length, counter.limit)
    return window.rolled(stored, now, counter.length)


def fits(counter: Counter, state: State, now: int) -> bool:
    """Whether what the counter needs fits, for a state that was rolled to `now`."""
    if counter.burst:
        return bucket.fits(state, counter.length, counter.burst, counter.need)
    return window.fits(state, now, counter.length, counter.limit, counter.need)


def charged(counter: Counter, state: State) -> State:
    if counter.burst:
        return bucket.charged(state, counter.length, counter.charge)
    return window.charged(state, counter.charge)


def remaining(counter: Counter, state: State, now: int) -> int:
    """How many hits would fit now."""
    if counter.burst:
        return bucket.remaining(state, now, counter.length, counter.limit, counter.burst)
    return window.remaining(state, now, counter.length, counter.limit)


def wait(counter: Counter, state: State, now: int, need: int) -> int:
    """The least number of milliseconds after which `need` hits fit if nobody else spends any."""
    if counter.burst:
        return bucket.wait(state, now, counter.length, counter.limit, counter.burst, need)
    return window.wait(state, now, counter.length, counter.limit, need)


def until_next(counter: Counter, state: State, now: int) -> int:
    """Milliseconds until the caller can do all again that it ever can: the window ends, the bucket is empty."""
    if counter.burst:
        return bucket.until_full(state, now, counter.limit)
    return window.until_next(state, now, counter.length)


def lifetime(counter: Counter, state: State, now: int) -> int:
    """Milliseconds for which the state can still matter."""
    if counter.burst:
        return bucket.until_full(state, now, counter.limit) + counter.length  # a clock may step back
    return window.lifetime(state, now, counter.length)
