"""Limits that each Envoy counts for itself, in token buckets: no request leaves it to be counted.

All buckets belong to one configuration, sent by ECDS: buckets of a route's own configuration would be full again after
every change of its route table. Its descriptors name rates and not routes, so that a new route with a rate that is
there already changes nothing here. Which limits a route has stands in the route's metadata: by the name of each
`Counter`, the id of the limit. Envoy passes over the rates that a route's metadata does not name.

Whatever changes a rate or adds the first of its kind makes all buckets full again.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutation
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption, Metadata, RuntimeFractionalPercent
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.route.v3.route_components_pb2 import RateLimit
from envoy.extensions.common.ratelimit.v3.ratelimit_pb2 import (
    DRAFT_VERSION_03,
    OFF,
    LocalRateLimitDescriptor,
    RateLimitDescriptor,
)
from envoy.extensions.filters.http.header_mutation.v3.header_mutation_pb2 import HeaderMutation as HeaderMutationFilter
from envoy.extensions.filters.http.header_mutation.v3.header_mutation_pb2 import Mutations
from envoy.extensions.filters.http.local_ratelimit.v3.local_rate_limit_pb2 import LocalRateLimit
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.type.metadata.v3.metadata_pb2 import MetadataKey
from envoy.type.v3.http_status_pb2 import HttpStatus
from envoy.type.v3.percent_pb2 import FractionalPercent
from envoy.type.v3.token_bucket_pb2 import TokenBucket
from google.protobuf.any_pb2 import Any
from google.protobuf.wrappers_pb2 import UInt64Value

from gateway import limits
from gateway.limits import LocalLimit
from gateway.model import Listener
from gateway.resolve import ResolvedRoute
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError
from xds_server.compiler.filters import Stage, discovered_filter, optional_filter, ratelimit, turned_on
from xds_server.compiler.identity import Identity, RouteSpec, identify
from xds_server.compiler.wire import boolean, duration, extension, uint32

NAME: Final = "tollhouse/local_ratelimit"
RETRY_AFTER: Final = "tollhouse/retry_after"
NAMESPACE: Final = "tollhouse.local_limits"
MOST_BUCKETS: Final = 65_536
"""Of one rate, over all callers and routes; the one not asked for longest makes room, and is full when it returns."""

_ALWAYS: Final = RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100))
Action = RateLimit.Action


@dataclass(frozen=True, slots=True)
class Counter:
    """A way to count: a rate, and by what. `name` says both; counters of one name are the same."""

    name: str
    limit: LocalLimit
    actions: tuple[Action, ...]


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    return discovered_filter(NAME, LocalRateLimit, optional=True)


def on_route(context: Context, spec: RouteSpec) -> Any | None:
    if spec.resolved is None or not limits.local_limits(spec.resolved):
        return None
    return context.packed((NAME,), turned_on)


def metadata(spec: RouteSpec) -> Metadata:
    """Which limits a route has, for its entry of the route table; empty for most."""
    result = Metadata()
    for one in counters(spec):
        result.filter_metadata[NAMESPACE].fields[one.name].string_value = one.limit.id
    return result


def counters(spec: RouteSpec) -> Iterator[Counter]:
    if spec.resolved is not None:
        for limit in limits.local_limits(spec.resolved):
            yield counter(spec.identity, spec.resolved, limit)


def counter(identity: Identity, route: ResolvedRoute, limit: LocalLimit) -> Counter:
    if limit.requests == 0:
        raise CompileError("a limit of zero cannot be counted locally", "rate_limits")
    actions = tuple(ratelimit.entry(identity, route, key) for key in limit.keys)
    rate = (limit.requests, limit.seconds, limit.burst, limit.cost)
    digest = hashlib.blake2b(repr(rate).encode(), digest_size=6)
    for action in actions:
        digest.update(action.SerializeToString(deterministic=True))
    return Counter(f"{limit.requests}/{limit.seconds}s {digest.hexdigest()}", limit, actions)


def configuration(context: Context) -> TypedExtensionConfig:
    defaults = context.gateway.rate_limit_defaults
    found = {one.name: one for one in all_counters(context)}
    ordered = [found[name] for name in sorted(found)]
    config = LocalRateLimit(
        stat_prefix="local_limits",
        status=HttpStatus(code=defaults.response.status),  # type: ignore[arg-type] # an enum's number
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        enable_x_ratelimit_headers=DRAFT_VERSION_03 if "x-ratelimit" in defaults.headers else OFF,
        rate_limited_as_resource_exhausted=True,
        always_consume_default_token_bucket=boolean(False),
        max_dynamic_descriptors=uint32(MOST_BUCKETS),
        rate_limits=map(asked, ordered),
        descriptors=map(counted, ordered),
    )
    return extension(NAME, config)


def asked(counter: Counter) -> RateLimit:
    """The descriptor of a request on a route with such a limit; elsewhere its second entry, and so all, is missing."""
    path = [MetadataKey.PathSegment(key=counter.name)]
    id_ = Action.MetaData(
        descriptor_key="route_limit",
        metadata_key=MetadataKey(key=NAMESPACE, path=path),
        source=Action.MetaData.ROUTE_ENTRY,
    )
    head = (ratelimit.constant("local_limit", counter.name), Action(metadata=id_))
    addend = RateLimit.HitsAddend(number=UInt64Value(value=counter.limit.cost))
    return RateLimit(actions=(*head, *counter.actions), hits_addend=addend if counter.limit.cost > 1 else None)


def counted(counter: Counter) -> LocalRateLimitDescriptor:
    """A bucket for each limit of a route and each value of its keys: an entry without a value takes every one."""
    entries = [RateLimitDescriptor.Entry(key="local_limit", value=counter.name)]
    entries += [RateLimitDescriptor.Entry(key=key) for key in ("route_limit", *counter.limit.keys)]
    limit = counter.limit
    bucket = TokenBucket(
        max_tokens=limit.burst, tokens_per_fill=uint32(limit.requests), fill_interval=duration(limit.seconds * 1000)
    )
    return LocalRateLimitDescriptor(entries=entries, token_bucket=bucket)


def all_counters(context: Context) -> Iterator[Counter]:
    """Those of all routes, with few looked at twice: most routes inherit what their module says."""
    seen: set[object] = set()
    for route in context.kinds:
        if not route.rate_limits:
            continue
        key = (route.module, id(route.authentication), *map(id, route.rate_limits))
        if key not in seen:
            seen.add(key)
            yield from counters_of(context, route)


def counters_of(context: Context, route: ResolvedRoute) -> tuple[Counter, ...]:
    """None for a closed route; its problem is reported with it."""
    if not limits.local_limits(route):
        return ()
    try:
        return tuple(counters(RouteSpec(identify(context, route), route)))
    except CompileError:
        return ()


def retry_after(context: Context, listener: Listener) -> HttpFilter | None:
    """Envoy says in x-ratelimit-reset when a bucket has a token again; here it is said in HTTP's own word too."""
    status = context.gateway.rate_limit_defaults.response.status
    reset = "response.headers['x-ratelimit-reset']"
    refused = f"response.headers[':status'] == '{status}' && 'x-ratelimit-reset' in response.headers && {reset} != '0'"
    header = HeaderValueOption(
        header=HeaderValue(key="retry-after", value=f"%CEL({refused} ? {reset} : '')%"),  # nothing adds no header
        append_action=HeaderValueOption.ADD_IF_ABSENT,
    )
    mutations = Mutations(response_mutations=[HeaderMutation(append=header)])
    return optional_filter(RETRY_AFTER, HeaderMutationFilter(mutations=mutations))


STAGE: Final = Stage(
    NAME,
    "what an Envoy can refuse by itself need not be counted by anybody else",
    configure,
    on_route,
    extension=configuration,
)
RETRY: Final = Stage(RETRY_AFTER, "before the limits, since answers pass the chain from its end", retry_after, on_route)
