"""Rate limiting: which descriptors a request of a route sends to the rate limit service (see `gateway.limits`).

Last before the router: refused requests cost their callers nothing. Every metadata entry has a default, because Envoy
drops a descriptor one of whose entries is missing, and its limits with it. Values come from verified metadata and the
connection's address, never from a header. Envoy never asks on routes that answer themselves, so those send none. What a
request costs is the service's to say; Envoy reports one hit, or, when the stream is done, what the response cost.
"""

from typing import Final

from envoy.config.core.v3.config_source_pb2 import V3
from envoy.config.ratelimit.v3.rls_pb2 import RateLimitServiceConfig
from envoy.config.route.v3.route_components_pb2 import RateLimit
from envoy.extensions.filters.http.ratelimit.v3 import rate_limit_pb2
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.extensions.rate_limit_descriptors.expr.v3.expr_pb2 import Descriptor
from envoy.type.metadata.v3.metadata_pb2 import MetadataKey
from envoy.type.v3.http_status_pb2 import HttpStatus, ServiceUnavailable
from google.protobuf.any_pb2 import Any

from gateway import limits
from gateway.claims import claim_path
from gateway.model import Listener
from gateway.resolve import ResolvedRoute
from xds_server.compiler import names
from xds_server.compiler.combining import combined
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, http_filter
from xds_server.compiler.identity import DECIDED_NAMESPACE, JWT_NAMESPACE, Identity, RouteSpec
from xds_server.compiler.wire import duration, extension, grpc_service, pack

NAME: Final = "envoy.filters.http.ratelimit"
TIMEOUT: Final = 100
UNKNOWN: Final = "-"
Action = RateLimit.Action


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    defaults = context.gateway.rate_limit_defaults
    versions = rate_limit_pb2.RateLimit
    headers = versions.DRAFT_VERSION_03 if "x-ratelimit" in defaults.headers else versions.OFF
    return http_filter(
        NAME,
        rate_limit_pb2.RateLimit(
            domain=limits.DOMAIN,
            timeout=duration(TIMEOUT),
            failure_mode_deny=defaults.on_error == "deny",
            status_on_error=HttpStatus(code=ServiceUnavailable),
            rate_limited_status=HttpStatus(code=defaults.response.status),  # type: ignore[arg-type] # an enum's number
            rate_limited_as_resource_exhausted=True,
            disable_x_envoy_ratelimited_header=True,
            enable_x_ratelimit_headers=headers,
            rate_limit_service=RateLimitServiceConfig(
                grpc_service=grpc_service(names.DECISIONS, TIMEOUT), transport_api_version=V3
            ),
        ),
    )


def on_route(context: Context, spec: RouteSpec) -> Any | None:
    route = spec.resolved
    if route is None or not spec.reaches_upstream or combined(context, spec):
        return None
    anonymous = spec.identity.kind == "open"
    shapes = context.once((NAME, anonymous), lambda: limits.tier_shapes(context.gateway, anonymous=anonymous))
    own = limits.route_nodes(route) if route.rate_limits else ()
    if not shapes and not own:
        return None
    if own or any("route" in shape for shape in shapes):
        return pack(per_route(context, spec.identity, route, shapes))
    key = (NAME, spec.identity, route.tier if anonymous else "")
    return context.packed(key, lambda: per_route(context, spec.identity, route, shapes))


def per_route(
    context: Context, identity: Identity, route: ResolvedRoute, shapes: tuple[tuple[str, ...], ...]
) -> rate_limit_pb2.RateLimitPerRoute:
    """One descriptor a shape of the tiers' limits, then one for each limit of the route itself."""

    def shared(key: str) -> Action:
        if key == "route":
            return entry(identity, route, key)
        return context.once((NAME, identity, "entry", key), lambda: entry(identity, route, key))

    tier = context.once((NAME, identity, "tier", route.tier), lambda: tier_entry(context, identity, route))
    descriptors = [[tier, *map(shared, shape)] for shape in shapes]
    costs = limits.tier_costs(context.gateway, anonymous=identity.kind == "open")
    settled = [([tier, *map(shared, shape)], cost) for shape, cost in costs]
    for node in limits.route_nodes(route):
        actions = [constant(*node.head), *map(shared, node.keys)]
        descriptors.append(actions)
        settled += [(actions, cost) for cost in node.costs]
    asked = [RateLimit(actions=actions) for actions in descriptors]
    return rate_limit_pb2.RateLimitPerRoute(rate_limits=asked + [when_done(*one) for one in settled])


def when_done(actions: list[Action], cost: str) -> RateLimit:
    """Nobody waits for the answer to this one: the response has been sent. Without a number nothing is charged."""
    return RateLimit(
        actions=[*actions, constant(limits.COST, cost)],
        hits_addend=RateLimit.HitsAddend(format=cost_format(cost)),
        apply_on_stream_done=True,
    )


def cost_format(cost: str) -> str:
    """A `cost_from` as Envoy's access logs would write it."""
    source, _, header = cost.partition(":")
    return f"%RESP({header})%" if source == "response_header" else "%BYTES_SENT%"


def tier_entry(context: Context, identity: Identity, route: ResolvedRoute) -> Action:
    key = limits.tier_key(anonymous=identity.kind == "open")
    if identity.kind == "open":
        return constant(key, route.tier)
    if identity.kind == "decided":
        return from_metadata(key, DECIDED_NAMESPACE, ("tier",), identity.lowest)
    provider = identity.providers[0]
    claim = context.gateway.jwt_providers[provider].tier_claim
    if claim is None:
        return constant(key, identity.lowest)
    return from_metadata(key, JWT_NAMESPACE, (provider, *claim_path(claim)), identity.lowest)


def entry(identity: Identity, route: ResolvedRoute, key: str) -> Action:
    """One entry of a descriptor, by its key (see `limits.entry_keys`)."""
    match key:
        case "remote_address":
            return Action(remote_address=Action.RemoteAddress())
        case "route":
            return constant("route", route.full_name)
        case "client" if identity.kind == "native":
            return from_metadata(key, JWT_NAMESPACE, (identity.providers[0], "sub"), UNKNOWN)
        case "client":
            return from_metadata(key, DECIDED_NAMESPACE, ("client",), UNKNOWN)
        case _:
            return claim_entry(identity, key)


def claim_entry(identity: Identity, key: str) -> Action:
    """`claim:org` out of the token of whichever provider it was."""
    path = claim_path(key.removeprefix("claim:"))
    match identity.providers:
        case ():
            return constant(key, UNKNOWN)
        case (provider,):
            return from_metadata(key, JWT_NAMESPACE, (provider, *path), UNKNOWN)
        case providers:
            descriptor = Descriptor(descriptor_key=key, text=first_claim(providers, path))
            return Action(extension=extension("envoy.rate_limit_descriptors.expr", descriptor))


def first_claim(providers: tuple[str, ...], path: tuple[str, ...]) -> str:
    """The claim as a CEL expression, since a metadata entry reads one place only."""
    expression = f"'{UNKNOWN}'"
    for provider in reversed(providers):
        place = f"metadata.filter_metadata['{JWT_NAMESPACE}']"
        present = [f"'{JWT_NAMESPACE}' in metadata.filter_metadata"]
        for key in (provider, *path):
            present.append(f"type({place}) == map && '{key}' in {place}")  # an error would drop the descriptor
            place += f"['{key}']"
        expression = f"{' && '.join(present)} && type({place}) == string ? {place} : ({expression})"
    return expression


def constant(key: str, value: str) -> Action:
    return Action(generic_key=Action.GenericKey(descriptor_key=key, descriptor_value=value))


def from_metadata(key: str, namespace: str, path: tuple[str, ...], default: str) -> Action:
    segments = [MetadataKey.PathSegment(key=part) for part in path]
    return Action(
        metadata=Action.MetaData(
            descriptor_key=key, metadata_key=MetadataKey(key=namespace, path=segments), default_value=default
        )
    )


STAGE: Final = Stage(NAME, "only a request that would be sent on counts against a limit", configure, on_route)
