"""What the decision services count. Labels hold the operator's words only: the document bounds how many there are."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.quotas import Quota
from policy.ratelimit.tree import Limit

DETAILS: Final = 1_000
"""Descriptors with their values (`detailed_metric`, `value_to_metric`) that get a label of their own."""


class Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._authz = Counter(
            "gw_authz_decisions",
            "Decisions about who is calling, by route and result",
            ("rule", "result"),
            registry=registry,
        )
        self._ratelimit = Counter(
            "gw_ratelimit_decisions",
            "Decisions of each rate limit, by rule, the caller's tier and result",
            ("rule", "tier", "result"),
            registry=registry,
        )
        self._cache = Counter(
            "gw_cache_requests",
            "Requests of routes with a response cache, by route and result",
            ("rule", "result"),
            registry=registry,
        )
        self._quota_buckets = Gauge(
            "gw_quota_buckets", "Buckets of quotas that are shared out here now", registry=registry
        )
        self._near = Counter(
            "gw_ratelimit_near_limit",
            "Requests within a limit of which they left less than a fifth",
            ("rule", "tier"),
            registry=registry,
        )
        self._logged = Counter(
            "gw_access_log_entries",
            "Requests that Envoys told of, counted or lost because there were too many names",
            ("result",),
            registry=registry,
        )
        self._details: set[str] = set()
        self._children: dict[tuple[str, ...], Counter] = {}  # `labels` takes a lock and builds strings each time
        self._kept: dict[tuple[str, ...], Counter] = {}

    def authz(self, rule: str, result: str) -> None:
        child = self._children.get((rule, result))
        if child is None:
            child = self._children[rule, result] = self._authz.labels(rule, result)
        child.inc()

    def cache(self, rule: str, result: str) -> None:
        """`result`: hit, miss, or bypass for what is never answered from the cache."""
        child = self._kept.get((rule, result))
        if child is None:
            child = self._kept[rule, result] = self._cache.labels(rule, result)
        child.inc()

    def logged(self, told: int, lost: int) -> None:
        for result, count in (("counted", told - lost), ("lost", lost)):
            if count:
                self._logged.labels(result).inc(count)

    def quota_buckets(self, count: int) -> None:
        self._quota_buckets.set(count)

    def quota(self, quota: Quota, allowed: int, denied: int) -> None:
        """What an Envoy reports to have let through and refused."""
        for result, count in (("ok", allowed), ("over_limit", denied)):
            if count:
                self._ratelimit.labels(quota.rule, quota.tier, result).inc(count)

    def ratelimit(self, limit: Limit | None, result: str, detail: str = "") -> None:
        """`limit`: None when no particular limit is concerned (the store or the gateway's view is not there).

        `detail`: the rule with values of the request, where the operator wants them.
        """
        labels = (self._bounded(detail) if detail else limit.rule, limit.tier, result) if limit else ("", "", result)
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._ratelimit.labels(*labels)
        child.inc()

    def near_limit(self, limit: Limit) -> None:
        self._near.labels(limit.rule, limit.tier).inc()

    def _bounded(self, detail: str) -> str:
        """Values of requests are for callers to choose: what comes when there are many already is counted together."""
        if detail in self._details or len(self._details) < DETAILS:
            self._details.add(detail)
            return detail
        return "other"
