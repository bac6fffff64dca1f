"""rate_limit_quota: limits of which each Envoy counts the share that the decision service gives it (RLQS).

Envoy looks for one bucket in one filter, so there are two: for the tier's limit and for the route's own. Their matchers
go by ECDS, know rates and tiers and no routes, and keep their buckets over a change. What a request is counted by
stands in its filter state (`quota_keys`). Envoy has no words of the filter's own for a route: it is on or off.

While nothing has been assigned, `rate_limit_defaults.on_error` decides: `deny` refuses even the first requests of a
caller, some milliseconds long; `allow` lets those through. When an assignment has expired because nobody renewed it,
`allow` has each Envoy count the whole limit for itself, and `deny` refuses. (Before an assignment Envoy could not: with
a token bucket there, Envoy 1.40 crashes at the first request.)
"""

from functools import partial
from typing import Final

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.extensions.filters.http.rate_limit_quota.v3.rate_limit_quota_pb2 import (
    RateLimitQuotaBucketSettings,
    RateLimitQuotaFilterConfig,
)
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.extensions.matching.common_inputs.network.v3.network_inputs_pb2 import FilterStateInput
from envoy.type.v3.http_status_pb2 import HttpStatus
from envoy.type.v3.ratelimit_strategy_pb2 import RateLimitStrategy
from envoy.type.v3.token_bucket_pb2 import TokenBucket
from google.protobuf.any_pb2 import Any
from google.rpc.status_pb2 import Status
from xds.core.v3.extension_pb2 import TypedExtensionConfig as MatcherExtension
from xds.type.matcher.v3.matcher_pb2 import Matcher

from gateway import quotas
from gateway.model import Listener, RateLimitDefaults
from gateway.quotas import Quota
from xds_server.compiler import names
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, discovered_filter, quota_keys, turned_on
from xds_server.compiler.identity import RouteSpec
from xds_server.compiler.wire import duration, extension, pack, uint32

TIER: Final = "tollhouse/quota_of_tier"
ROUTE: Final = "tollhouse/quota_of_route"
FALLBACK: Final = 3_600_000
"""Milliseconds for which an Envoy counts alone; Envoy then goes back to what holds before an assignment."""
REPORT: Final = quotas.REPORT_SECONDS * 1000
RESOURCE_EXHAUSTED: Final = 8
Settings = RateLimitQuotaBucketSettings
Builder = Settings.BucketIdBuilder.ValueBuilder


def configure(name: str, context: Context, listener: Listener) -> HttpFilter | None:
    return discovered_filter(name, RateLimitQuotaFilterConfig, optional=True)


def on_route_of_tier(context: Context, spec: RouteSpec) -> Any | None:
    return context.packed((TIER,), turned_on) if quota_keys.of_tiers(context, spec) else None


def on_route_of_route(context: Context, spec: RouteSpec) -> Any | None:
    return context.packed((ROUTE,), turned_on) if quota_keys.of_route(spec) is not None else None


def of_tiers(context: Context) -> TypedExtensionConfig:
    """Callers with and without credentials have different words for their tier."""
    defaults, gateway = context.gateway.rate_limit_defaults, context.gateway
    known, anonymous = (
        by_value(word, {one.tier: settings(defaults, one) for one in found})
        for word, found in (
            ("tier", quotas.of_tiers(gateway, anonymous=False)),
            ("anonymous_tier", quotas.of_tiers(gateway, anonymous=True)),
        )
    )
    if known is not None and anonymous is not None:
        known.on_no_match.matcher.CopyFrom(anonymous)
    return configuration(TIER, known)


def of_routes(context: Context) -> TypedExtensionConfig:
    found = filter(None, map(quotas.of_route, context.kinds))
    rates = {quota_keys.rate(one): one for one in found}
    defaults = context.gateway.rate_limit_defaults
    return configuration(ROUTE, by_value("rate", {rate: settings(defaults, rates[rate]) for rate in sorted(rates)}))


def configuration(name: str, matcher: Matcher | None) -> TypedExtensionConfig:
    """Both filters share one stream and one set of buckets: Envoy keeps one for each cluster and domain."""
    service = GrpcService(envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=names.QUOTAS))
    config = RateLimitQuotaFilterConfig(
        rlqs_server=service, domain=quotas.DOMAIN, bucket_matchers=Matcher() if matcher is None else matcher
    )
    return extension(name, config)


def by_value(word: str, found: dict[str, Settings]) -> Matcher | None:
    """The settings by the text of one object of the request's state; a request without it has no such limit."""
    if not found:
        return None
    actions = {
        text: Matcher.OnMatch(action=MatcherExtension(name="bucket", typed_config=pack(one)))
        for text, one in found.items()
    }
    tree = Matcher.MatcherTree(input=state(word), exact_match_map=Matcher.MatcherTree.MatchMap(map=actions))
    return Matcher(matcher_tree=tree)


def state(word: str) -> MatcherExtension:
    return MatcherExtension(name=word, typed_config=pack(FilterStateInput(key=quota_keys.PREFIX + word)))


def settings(defaults: RateLimitDefaults, quota: Quota) -> Settings:
    head, name = quota.head
    first = Builder(custom_value=_input("route_limit")) if head == "route_limit" else Builder(string_value=name)
    parts = {head: first} | {key: Builder(custom_value=_input(key)) for key in quota.keys}
    open_ = defaults.on_error == "allow"
    return Settings(
        bucket_id_builder=Settings.BucketIdBuilder(bucket_id_builder=parts),
        reporting_interval=duration(REPORT),
        no_assignment_behavior=Settings.NoAssignmentBehavior(fallback_rate_limit=blanket(allowed=open_)),
        expired_assignment_behavior=Settings.ExpiredAssignmentBehavior(
            expired_assignment_behavior_timeout=duration(FALLBACK),
            fallback_rate_limit=alone(quota) if open_ else blanket(allowed=False),
        ),
        deny_response_settings=denied(defaults, quota),
    )


def _input(word: str) -> TypedExtensionConfig:
    """The same input in the older of two messages with one shape."""
    return extension(word, FilterStateInput(key=quota_keys.PREFIX + word))


def blanket(*, allowed: bool) -> RateLimitStrategy:
    return RateLimitStrategy(blanket_rule=RateLimitStrategy.ALLOW_ALL if allowed else RateLimitStrategy.DENY_ALL)


def alone(quota: Quota) -> RateLimitStrategy:
    """The whole limit, in whole tokens a second or more: Envoy drops fractions of seconds."""
    interval = quotas.fill_seconds(quota)
    bucket = TokenBucket(
        max_tokens=quota.burst,
        tokens_per_fill=uint32(quotas.tokens(quota)),
        fill_interval=duration(interval * 1000),
    )
    return RateLimitStrategy(token_bucket=bucket)


def denied(defaults: RateLimitDefaults, quota: Quota) -> Settings.DenyResponseSettings:
    """`retry-after`: until a token of the whole limit comes back, whoever gets it. The body is `replies`'."""
    wait = HeaderValue(key="retry-after", value=str(-(-quota.seconds // quota.requests)))
    return Settings.DenyResponseSettings(
        http_status=HttpStatus(code=defaults.response.status),  # type: ignore[arg-type] # an enum's number
        grpc_status=Status(code=RESOURCE_EXHAUSTED, message="Too many requests; try again later."),
        response_headers_to_add=[HeaderValueOption(header=wait, append_action=HeaderValueOption.ADD_IF_ABSENT)],
    )


OF_TIER: Final = Stage(
    TIER,
    "what the Envoy may let through of the tier's quota",
    partial(configure, TIER),
    on_route_of_tier,
    extension=of_tiers,
)
OF_ROUTE: Final = Stage(
    ROUTE,
    "what the Envoy may let through of the route's own quota",
    partial(configure, ROUTE),
    on_route_of_route,
    extension=of_routes,
)
