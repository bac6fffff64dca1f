"""The leaky bucket as a meter (GCRA), as pure integer arithmetic: for limits with a `burst`.

A hit adds `length` to the level, which falls by `limit` each millisecond; hits fit while the level stays at or below
`burst * length`. So at most `burst` hits come at once, they come back evenly at `limit` per `length`, and no stretch of
that length ever sees more than `limit + burst`.

The state is the window counter's triple with another meaning: the time of the last change, 0, and the level. Capacities
stay below 2**52 (`gateway` refuses larger ones), so that the Lua script, whose numbers are IEEE doubles, computes
exactly the same. Times are whole milliseconds since the epoch, of the store's clock.
"""

from typing import Final

from policy.ratelimit.window import State

LARGEST_CAPACITY: Final = 1 << 52


def rolled(stored: State | None, now: int, length: int, limit: int) -> State:
    """The state as of `now`. A clock that went back changes nothing; by more than `length`, it leaks from there on."""
    if stored is None:
        return State(now, 0, 0)
    elapsed = now - stored.window
    if elapsed < 0:
        return stored if -elapsed <= length else State(now, 0, stored.current)
    return State(now, 0, max(0, stored.current - elapsed * limit))


def fits(state: State, length: int, burst: int, need: int) -> bool:
    return state.current + need * length <= burst * length


def charged(state: State, length: int, hits: int) -> State:
    """Below 0: a refund. What is charged whether it fits or not may pass the burst, up to the largest capacity."""
    return state._replace(current=min(max(0, state.current + hits * length), LARGEST_CAPACITY))


def remaining(state: State, now: int, length: int, limit: int, burst: int) -> int:
    """How many hits would fit now."""
    return max(0, (burst * length - rolled(state, now, length, limit).current) // length)


def wait(state: State, now: int, length: int, limit: int, burst: int, need: int) -> int:  # noqa: PLR0913, RUF100
    """The least number of milliseconds after which `need` hits fit if nobody else spends any.

    A need above the burst never fits; `length` is returned then.
    """
    if need > burst:
        return length
    return max(0, state.window + until_level(state, limit, (burst - need) * length) - now)


def until_full(state: State, now: int, limit: int) -> int:
    """Milliseconds until the whole burst is there again, and the state cannot matter any more."""
    return max(0, state.window + until_level(state, limit, 0) - now)


def until_level(state: State, limit: int, level: int) -> int:
    """Milliseconds from the state's own time until its level is down to that one."""
    return -(-max(0, state.current - level) // limit)
