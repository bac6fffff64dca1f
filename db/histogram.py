"""Latencies in bins that grow by a tenth: what is merged is added up, and a quantile is right within 5 %.

The idea is DDSketch's (Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch", VLDB 2019).
"""

import math
from collections.abc import Mapping
from typing import Final

GROWTH: Final = 1.1
ERROR: Final = (GROWTH - 1) / (GROWTH + 1)
"""The largest relative error of a quantile, for latencies from 1 ms on; below that all are one."""

_STEP: Final = math.log(GROWTH)


def bin_of(milliseconds: float) -> int:
    """0 for 1 ms and less; else the bin that ends at `GROWTH ** bin` ms."""
    return 0 if milliseconds <= 1 else math.ceil(math.log(milliseconds) / _STEP)


def latency_of(bin_: int) -> float:
    """Milliseconds: what is at most `ERROR` away from everything in the bin."""
    return 1.0 if bin_ == 0 else 2 * GROWTH**bin_ / (GROWTH + 1)


def quantile(bins: Mapping[int, int], share: float) -> float | None:
    """Milliseconds that `share` (0 to 1) of all requests took at most; None of none."""
    left = math.ceil(share * sum(bins.values()))
    for bin_ in sorted(bins):
        left -= bins[bin_]
        if left <= 0:
            return latency_of(bin_)
    return None
