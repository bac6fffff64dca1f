"""How one quota is shared out among the Envoys that it is asked of: reports and the clock in, shares out.

A share is a token bucket that Envoy empties by itself. All shares together give what the quota gives:

- Shares follow demand: what an Envoy let through and refused since its last report, a second. A tenth of the quota is
  shared out evenly, so that who was idle can begin at once; who is new counts as one of the average.
- A share ends `TTL` seconds after it was given last. Who has gone without a word may still be spending his until then,
  or may be dead; others get half of it at once and the rest when it ends. So as long as nobody goes no more than the
  quota is out, and never more than twice, however many come and go. Who comes back with what he was given (Envoy
  reports on a bucket that it knows) takes it up again.
- A share that would hardly change is left as it is.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Final, Generic, NamedTuple, TypeVar

from gateway import quotas
from gateway.quotas import REPORT_SECONDS, Quota

TTL: Final = 15
"""Seconds: three reports of Envoy's, of which two may be lost."""
EVEN: Final = 10
"""One part in so many is shared out evenly."""
HARDLY: Final = 20
"""A change of less than one part of the whole in so many is none."""
E = TypeVar("E", bound=Hashable)


class Share(NamedTuple):
    """`tokens` come back in `quotas.fill_seconds` of the quota; at most `burst` are there at once."""

    tokens: int
    burst: int


NOTHING: Final = Share(0, 0)


@dataclass(slots=True)
class _Member:
    """`demand`: requests a second; None for one who is new. `expires`: when its share ends, unless given again."""

    demand: float | None
    reported: float
    wanted: float
    share: Share = NOTHING
    expires: float = 0.0


class Left(NamedTuple):
    """The share of one who has gone, which may be in use until it expires."""

    tokens: int
    expires: float


class Shares(Generic[E]):
    """One bucket. Times are seconds of one clock that does not go back."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self._members: dict[E, _Member] = {}
        self._left: list[Left] = []

    def __bool__(self) -> bool:
        return bool(self._members or self._left)

    def __iter__(self) -> Iterator[E]:
        return iter(self._members)

    @property
    def due(self) -> float:
        """When `assign` has something to do that no report brings about."""
        silent = min((one.reported + TTL for one in self._members.values()), default=inf)
        return min(silent, min((one.expires for one in self._left), default=inf))

    @property
    def granted(self) -> int:
        """Tokens that are out, with those of Envoys that have gone."""
        return sum(one.share.tokens for one in self._members.values()) + sum(one.tokens for one in self._left)

    def report(self, envoy: E, hits: int, now: float, elapsed: float = 0.0) -> None:
        """`hits` since the last report. `elapsed`: seconds that this Envoy has known the bucket before a first one."""
        member = self._members.get(envoy)
        if member is None:
            if elapsed >= 1 and self._left:
                self._left.pop()
            demand = hits / elapsed if elapsed >= 1 else None
            self._members[envoy] = _Member(demand, now, now)
            return
        demand = hits / max(1.0, now - member.reported)
        before = member.demand or 0.0
        member.demand = demand if demand > before else (demand + before) / 2
        member.reported = now
        if hits:
            member.wanted = now

    def idle(self, envoy: E, now: float) -> bool:
        """Whether nobody has asked this Envoy for so long that its bucket is full, and three reports have said so."""
        full = self.quota.burst * self.quota.seconds / self.quota.requests
        return now - self._members[envoy].wanted >= max(3 * REPORT_SECONDS, full)

    def abandon(self, envoy: E) -> None:
        """It is told to forget its bucket, and so has nothing any more."""
        self._members.pop(envoy, None)

    def leave(self, envoy: E, now: float) -> None:
        """It went without a word, or has said nothing for too long."""
        member = self._members.pop(envoy, None)
        if member is not None and member.share.tokens and member.expires > now:
            self._left.append(Left(member.share.tokens, member.expires))

    def assign(self, now: float, renew: Iterable[E] = ()) -> dict[E, Share]:
        """Whom to tell which share: those whose share is another one, who has less first; and `renew` in any case."""
        for envoy in [one for one, member in self._members.items() if member.reported + TTL <= now]:
            self.leave(envoy, now)
        self._left = [one for one in self._left if one.expires > now]
        shares = self._shares()
        told = {envoy for envoy, share in shares.items() if share != self._members[envoy].share}
        told |= {envoy for envoy in renew if envoy in shares}
        more = {envoy: shares[envoy].tokens > self._members[envoy].share.tokens for envoy in told}
        for envoy in told:
            member = self._members[envoy]
            member.share, member.expires = shares[envoy], now + TTL
        return {envoy: shares[envoy] for envoy in sorted(told, key=more.__getitem__)}

    def _shares(self) -> dict[E, Share]:
        whole = quotas.tokens(self.quota)
        available = whole - (sum(one.tokens for one in self._left) + 1) // 2
        tokens = self._kept(whole, available) or parted(available, self._weights())
        burst = self.quota.burst
        return {
            envoy: Share(part, max(1, burst * part // whole)) if part else NOTHING
            for envoy, part in zip(self._members, tokens, strict=True)
        }

    def _weights(self) -> list[float]:
        known = [one.demand for one in self._members.values() if one.demand is not None]
        average = sum(known) / len(known) if known else 1.0
        return [average if one.demand is None else one.demand for one in self._members.values()]

    def _kept(self, whole: int, available: int) -> list[int] | None:
        """The shares as they are, if those of now would hardly be others."""
        before = [one.share.tokens for one in self._members.values()]
        after = parted(available, self._weights())
        close = all(abs(a - b) * HARDLY <= whole for a, b in zip(before, after, strict=True))
        complete = sum(before) <= available and (available - sum(before)) * HARDLY <= whole
        return before if close and complete and all(before) else None


def parted(whole: int, weights: list[float]) -> list[int]:
    """Whole numbers that add up to `whole`: a tenth of it evenly, one each at least, and the rest by weight."""
    if not weights:
        return []
    even = min(whole // len(weights), max(1, whole // EVEN // len(weights)))
    rest = whole - even * len(weights)
    total = sum(weights)
    exact = [rest * (one / total if total else 1 / len(weights)) for one in weights]
    parts = [int(one) for one in exact]
    by_fraction = sorted(range(len(weights)), key=lambda place: parts[place] - exact[place])
    for place in by_fraction[: max(0, rest - sum(parts))]:
        parts[place] += 1
    return [even + one for one in parts]
