"""All buckets of all Envoys: what each report and each second brings about, as what to tell whom. Knows no gRPC."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

import structlog

from gateway import quotas
from gateway.quotas import Quota
from policy.quota.shares import Share, Shares

log = structlog.get_logger(__name__)

MOST_BUCKETS: Final = 100_000
"""Beyond it new buckets stay without an assignment. Envoys forget idle ones, so it is many callers at once."""
BucketKey = tuple[tuple[str, str], ...]
"""A bucket's id, sorted."""
Limits = Mapping[tuple[str, str], Quota]
E = TypeVar("E", bound=Hashable)


class Usage(NamedTuple):
    """What an Envoy reports of a bucket, in `elapsed` seconds."""

    bucket: BucketKey
    allowed: int
    denied: int
    elapsed: float


class Told(NamedTuple):
    """What an Envoy is told of a bucket: its share, or (None) to forget the bucket."""

    quota: Quota
    share: Share | None


Telling = dict[E, dict[BucketKey, Told]]


class Board(Generic[E]):
    """`limits`: those of the gateway; who changes them says `changed`."""

    def __init__(self) -> None:
        self.limits: Limits = {}
        self._buckets: dict[BucketKey, Shares[E]] = {}
        self._of: dict[E, set[BucketKey]] = {}
        self._full = False

    def __len__(self) -> int:
        return len(self._buckets)

    def report(self, envoy: E, usages: Iterable[Usage], now: float) -> Telling[E]:
        telling: Telling[E] = {}
        for usage in usages:
            shares = self._shares(usage.bucket)
            if shares is None:
                continue
            shares.report(envoy, usage.allowed + usage.denied, now, usage.elapsed)
            self._of.setdefault(envoy, set()).add(usage.bucket)
            if shares.idle(envoy, now):
                self._abandon(envoy, usage.bucket, shares, telling)
                self._assign(usage.bucket, shares, now, telling)
            else:
                self._assign(usage.bucket, shares, now, telling, renew=(envoy,))
        return telling

    def leave(self, envoy: E, now: float) -> Telling[E]:
        """Its stream has ended; its shares may live on."""
        telling: Telling[E] = {}
        for bucket in self._of.pop(envoy, ()):
            shares = self._buckets.get(bucket)
            if shares is not None:
                shares.leave(envoy, now)
                self._assign(bucket, shares, now, telling)
        return telling

    def tick(self, now: float) -> Telling[E]:
        """Shares of those who went, or say nothing, return when they expire."""
        telling: Telling[E] = {}
        for bucket, shares in [(b, s) for b, s in self._buckets.items() if s.due <= now]:
            self._assign(bucket, shares, now, telling)
        return telling

    def changed(self, limits: Limits, now: float) -> Telling[E]:
        """Another gateway is in force."""
        self.limits = limits
        telling: Telling[E] = {}
        for bucket, shares in list(self._buckets.items()):
            quota = self.limit_of(bucket)
            if quota is None:
                for envoy in list(shares):
                    self._abandon(envoy, bucket, shares, telling)
                del self._buckets[bucket]
            elif quota != shares.quota:
                shares.quota = quota
                self._assign(bucket, shares, now, telling, renew=tuple(shares))
        return telling

    def limit_of(self, bucket: BucketKey) -> Quota | None:
        """None where it is of no limit of this gateway."""
        head = quotas.head_of(dict(bucket))
        return self.limits.get(head) if head is not None else None

    def clear(self) -> None:
        """Somebody else shares out now."""
        self._buckets.clear()
        self._of.clear()

    def _shares(self, bucket: BucketKey) -> Shares[E] | None:
        """None for a bucket of a limit that this gateway does not have (yet), and when there are too many."""
        found = self._buckets.get(bucket)
        if found is not None:
            return found
        quota = self.limit_of(bucket)
        if quota is None:
            return None
        full = len(self._buckets) >= MOST_BUCKETS
        if full != self._full:
            self._full = full
            log.warning("quota_buckets", full=full, buckets=len(self._buckets))
        if full:
            return None
        return self._buckets.setdefault(bucket, Shares(quota))

    def _assign(
        self, bucket: BucketKey, shares: Shares[E], now: float, telling: Telling[E], renew: Iterable[E] = ()
    ) -> None:
        for envoy, share in shares.assign(now, renew).items():
            telling.setdefault(envoy, {})[bucket] = Told(shares.quota, share)
        if not shares:
            self._buckets.pop(bucket, None)

    def _abandon(self, envoy: E, bucket: BucketKey, shares: Shares[E], telling: Telling[E]) -> None:
        shares.abandon(envoy)
        self._of.get(envoy, set()).discard(bucket)
        telling.setdefault(envoy, {})[bucket] = Told(shares.quota, None)
