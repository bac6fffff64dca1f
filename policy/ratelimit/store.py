"""What a store of counters is: it decides all counters of one request at once."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from policy.ratelimit.window import State
from policy.unavailable import Unavailable

__all__ = ["Counter", "Reading", "Store", "Taken", "Unavailable"]

SLIDING, FIXED, LOG, GCRA = range(4)
"""The algorithms, as the script knows them (`policy.ratelimit.pace`)."""

LARGEST = 1 << 33
"""Needs and charges are cut here: above every limit, so that such a request is over it, and exact in a double."""


class Counter(NamedTuple):
    """One limit as one request meets it.

    `need` hits must fit below `limit` per `length` milliseconds, then `charge` are counted (0: the request only asks).
    Without a need nothing is asked: the charge is made whatever else the request meets, and below 0 it is a refund.
    A counter that is not `enforced` (shadow) never refuses the request. Of the algorithm GCRA no more than `burst` fit
    at once. One that `counts_denied` counts what is refused as well.
    """

    key: str
    length: int
    limit: int
    need: int
    charge: int
    enforced: bool
    burst: int = 0
    algorithm: int = SLIDING
    counts_denied: bool = False


class Reading(NamedTuple):
    """A counter after the decision. `over`: the need did not fit. None for `state`: not known by this decision."""

    over: bool
    state: State | None


class Taken(NamedTuple):
    """`now`: the store's clock in milliseconds. `admitted`: no enforced counter is over; what fitted was charged."""

    now: int
    admitted: bool
    readings: Sequence[Reading]


class Store(Protocol):
    async def take(self, counters: Sequence[Counter], timeout: float) -> Taken:  # noqa: ASYNC109 - from the RPC
        """Decides and charges atomically, within `timeout` seconds.

        If an enforced counter is over, nothing is charged but what had no need and what `counts_denied`. A shadow
        counter that is over is not charged either: it counts what it would have admitted if it were enforced. The keys
        are distinct. Raises Unavailable.
        """

    async def close(self) -> None: ...
