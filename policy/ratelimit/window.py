"""The sliding window counter, as pure integer arithmetic; and the fixed window, which is one that forgets sooner.

Windows of one length follow each other on the clock. A key has two counts: of this window and of the one before. The
count before weighs as much as the part of it that a window ending now would still cover:

    used = ceil(previous * fraction / 2**16) + current        fraction = ceil(2**16 * (length - elapsed) / length)

Both roundings go against the caller, so rounding never admits anything. Everything fits into 53 bits, hence the Lua
script, whose numbers are IEEE doubles, computes exactly the same (`policy.ratelimit.script`). Times are whole
milliseconds since the epoch, of the store's clock.

What it promises: never more than `limit` in one window of the clock; in any other stretch of that length less than
twice the limit, and close to the limit when callers spread their requests (docs/decisions.md).
"""

from typing import Final, NamedTuple

BITS: Final = 16
SCALE: Final = 1 << BITS
CEILING: Final = 1 << 36
"""Counts stop here: above every limit (2**32 - 1), and 2**36 * 2**16 is still exact in a double."""


class State(NamedTuple):
    """A key's counts in the window number `window` (time // length) and in the one before it."""

    window: int
    previous: int
    current: int


def rolled(stored: State | None, now: int, length: int) -> State:
    """The state as of `now`.

    If the clock went back by less than a window, the newer window stays (nobody gains by the step); if it went back
    further, the counts move to the window of the clock, so that a wrong clock cannot block a key for long.
    """
    window = now // length
    if stored is None:
        return State(window, 0, 0)
    ahead = stored.window - window
    if ahead in (0, 1):
        return stored
    if ahead == -1:
        return State(window, stored.current, 0)
    return State(window, 0, 0) if ahead < 0 else State(window, stored.previous, stored.current)


def used(state: State, now: int, length: int) -> int:
    """What counts against the limit at `now`, for a state that was rolled to `now`."""
    elapsed = max(0, now - state.window * length)
    fraction = -((elapsed - length) * SCALE // length)
    return -(-state.previous * fraction >> BITS) + state.current


def fits(state: State, now: int, length: int, limit: int, need: int) -> bool:
    return used(state, now, length) + need <= limit


def charged(state: State, hits: int) -> State:
    """Below 0: a refund, of this window's hits first and then of those of the one before."""
    current = state.current + hits
    if current >= 0:
        return State(state.window, state.previous, min(current, CEILING))
    return State(state.window, max(0, state.previous + current), 0)


def remaining(state: State, now: int, length: int, limit: int) -> int:
    """How many hits would fit now."""
    return max(0, limit - used(state, now, length))


def wait(state: State, now: int, length: int, limit: int, need: int) -> int:
    """The least number of milliseconds after which `need` hits fit if nobody else spends any.

    A need above the limit never fits; the length of a window is returned then.
    """
    if need > limit:
        return length
    start = state.window * length
    room = limit - state.current - need
    if room >= 0 and (elapsed := _elapsed_for(state.previous, room, length)) < length:
        return max(0, start + elapsed - now)
    return start + length + _elapsed_for(state.current, limit - need, length) - now


def wait_fixed(state: State, now: int, length: int, limit: int, need: int) -> int:
    """The same for a window that does not remember the one before."""
    if need <= limit and state.current + need <= limit:
        return 0
    return until_next(state, now, length)


def until_next(state: State, now: int, length: int) -> int:
    """Milliseconds until this window ends."""
    return (state.window + 1) * length - now


def lifetime(state: State, now: int, length: int) -> int:
    """Milliseconds for which the state can still matter: to the end of the next window."""
    return (state.window + 2) * length - now


def _elapsed_for(previous: int, room: int, length: int) -> int:
    """The least time into a window, at most its length, at which `previous` weighs `room` or less."""
    if previous <= room:
        return 0
    fraction = (room << BITS) // previous
    return length - (fraction * length >> BITS)
