"""RLQS messages: what Envoy reports, and shares as it takes them (Envoy's `global_client_impl.cc` is why)."""

from collections.abc import Iterator, Mapping

from envoy.service.rate_limit_quota.v3.rlqs_pb2 import (
    BucketId,
    RateLimitQuotaResponse,
    RateLimitQuotaUsageReports,
)
from envoy.type.v3.ratelimit_strategy_pb2 import RateLimitStrategy
from envoy.type.v3.token_bucket_pb2 import TokenBucket
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from gateway import quotas
from gateway.quotas import Quota
from policy.quota.board import BucketKey, Told, Usage
from policy.quota.shares import TTL, Share

BucketAction = RateLimitQuotaResponse.BucketAction


def usages(reports: RateLimitQuotaUsageReports) -> Iterator[Usage]:
    """The time elapsed is of whole seconds, and 0 in a bucket's first report."""
    for one in reports.bucket_quota_usages:
        bucket = tuple(sorted(one.bucket_id.bucket.items()))
        yield Usage(bucket, one.num_requests_allowed, one.num_requests_denied, one.time_elapsed.seconds)


def response(told: Mapping[BucketKey, Told]) -> RateLimitQuotaResponse:
    return RateLimitQuotaResponse(bucket_action=[action(bucket, one) for bucket, one in told.items()])


def action(bucket: BucketKey, told: Told) -> BucketAction:
    """An assignment without a time to live would end at once."""
    id_ = BucketId(bucket=dict(bucket))
    if told.share is None:
        return BucketAction(bucket_id=id_, abandon_action=BucketAction.AbandonAction())
    assignment = BucketAction.QuotaAssignmentAction(
        assignment_time_to_live=Duration(seconds=TTL), rate_limit_strategy=strategy(told.quota, told.share)
    )
    return BucketAction(bucket_id=id_, quota_assignment_action=assignment)


def strategy(quota: Quota, share: Share) -> RateLimitStrategy:
    """A token bucket is the only strategy that Envoy carries out.

    It keeps a bucket that is the same, and looks at no more of its fill interval than the nanoseconds to tell; then it
    drops them. So they say the seconds once more.
    """
    if not share.tokens:
        return RateLimitStrategy(blanket_rule=RateLimitStrategy.DENY_ALL)
    seconds = quotas.fill_seconds(quota)
    return RateLimitStrategy(
        token_bucket=TokenBucket(
            max_tokens=share.burst,
            tokens_per_fill=UInt32Value(value=share.tokens),
            fill_interval=Duration(seconds=seconds, nanos=seconds),
        )
    )
