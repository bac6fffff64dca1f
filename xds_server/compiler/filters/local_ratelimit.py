"""Limits that each Envoy counts for itself, in token buckets: no request leaves it to be counted.

All buckets belong to one configuration, sent by ECDS: buckets of a route's own configuration would be full again after
every change of its route table. Its descriptors name rates and not routes, so that a new route with a rate that is
there already changes nothing here. Which limits a route has stands in the route's metadata: by the name of each
`Counter`, the id of the limit. Envoy passes over the rates that a route's metadata does not name.

Limits of tiers are in `local_tiers`.

Whatever changes a rate or adds the first of its kind makes all buckets full again.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
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
from google.protobuf.any_pb2 import Any
from google.protobuf.wrappers_pb2 import UInt64Value

from gateway import local_limits
from gateway.local_limits import LocalLimit
from gateway.model import Listener
from gateway.resolve import ResolvedRoute
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError
from xds_server.compiler.filters import Stage, discovered_filter, local_tiers, optional_filter, ratelimit, turned_on
from xds_server.compiler.identity import Identity, RouteSpec, identify
from xds_server.compiler.wire import boolean, extension, fingerprint, uint32

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
    if spec.resolved is None or not (local_limits.of_route(spec.resolved) or local_tiers.slots(context, spec)):
        return None
    return context.packed((NAME,), turned_on)


def metadata(context: Context, spec: RouteSpec) -> Metadata | None:
    """Which limits a route has, for its entry of the route table; None for most."""
    if spec.resolved is None:
        return None
    said = {one.name: one.limit.id for one in counters(spec)}
    said |= {one.name: local_tiers.written(one, spec.resolved) for one in local_tiers.slots(context, spec)}
    return of(said) if said else None


def of(said: Mapping[str, str]) -> Metadata:
    result = Metadata()
    for name, text in said.items():
        result.filter_metadata[NAMESPACE].fields[name].string_value = text
    return result


def counters(spec: RouteSpec) -> Iterator[Counter]:
    if spec.resolved is not None:
        for limit in local_limits.of_route(spec.resolved):
            yield counter(spec.identity, spec.resolved, limit)


def counter(identity: Identity, route: ResolvedRoute, limit: LocalLimit) -> Counter:
    if limit.requests == 0:
        raise CompileError("a limit of zero cannot be counted locally", "rate_limits")
    actions = tuple(ratelimit.entry(identity, route, key) for key in limit.keys)
    rate = (limit.requests, limit.seconds, limit.burst, limit.cost)
    return Counter(f"{limit.requests}/{limit.seconds}s {fingerprint(actions, repr(rate))}", limit, actions)


def configuration(context: Context) -> TypedExtensionConfig:
    defaults = context.gateway.rate_limit_defaults
    found = {one.name: one for one in all_counters(context)}
    ordered = [found[name] for name in sorted(found)]
    slots = {one.name: one for one in all_slots(context)}
    asked_by = [slots[name] for name in sorted(slots)]
    tiers = [*local_tiers.limits(context, anonymous=False), *local_tiers.limits(context, anonymous=True)]
    config = LocalRateLimit(
        stat_prefix="local_limits",
        status=HttpStatus(code=defaults.response.status),  # type: ignore[arg-type] # an enum's number
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        enable_x_ratelimit_headers=DRAFT_VERSION_03 if "x-ratelimit" in defaults.headers else OFF,
        rate_limited_as_resource_exhausted=True,
        always_consume_default_token_bucket=boolean(False),
        max_dynamic_descriptors=uint32(MOST_BUCKETS),
        rate_limits=[*map(asked, ordered), *map(asked_by_slot, asked_by)],
        descriptors=[*map(counted, ordered), *local_tiers.counted(asked_by, tiers)],
    )
    return extension(NAME, config)


def asked(counter: Counter) -> RateLimit:
    """The descriptor of a request on a route with such a limit."""
    head = ratelimit.constant("local_limit", counter.name)
    return descriptor((head, told("route_limit", counter.name), *counter.actions), counter.limit.cost)


def asked_by_slot(slot: local_tiers.Slot) -> RateLimit:
    return descriptor((local_tiers.head(slot), told("route", slot.name), *slot.actions), slot.cost)


def told(key: str, name: str) -> Action:
    """What the route's metadata says by that name; where it says nothing the whole descriptor is missing."""
    place = MetadataKey(key=NAMESPACE, path=[MetadataKey.PathSegment(key=name)])
    return Action(metadata=Action.MetaData(descriptor_key=key, metadata_key=place, source=Action.MetaData.ROUTE_ENTRY))


def descriptor(actions: Iterable[Action], cost: int) -> RateLimit:
    addend = RateLimit.HitsAddend(number=UInt64Value(value=cost)) if cost > 1 else None
    return RateLimit(actions=actions, hits_addend=addend)


def counted(counter: Counter) -> LocalRateLimitDescriptor:
    """A bucket for each limit of a route and each value of its keys: an entry without a value takes every one."""
    entries = [RateLimitDescriptor.Entry(key="local_limit", value=counter.name)]
    entries += [RateLimitDescriptor.Entry(key=key) for key in ("route_limit", *counter.limit.keys)]
    return LocalRateLimitDescriptor(entries=entries, token_bucket=local_tiers.bucket(counter.limit))


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
    if not local_limits.of_route(route):
        return ()
    try:
        return tuple(counters(RouteSpec(identify(context, route), route)))
    except CompileError:
        return ()


def all_slots(context: Context) -> Iterator[local_tiers.Slot]:
    """Those of all ways to authenticate, whether or not a route of that way sends anything on."""
    if not any(limit.mode == "local" for tier in context.gateway.tiers.values() for limit in tier.rate_limits):
        return
    for route in context.kinds:
        with suppress(CompileError):
            yield from local_tiers.slots_of(context, identify(context, route), route)


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
