"""set_filter_state: by what a request's quotas are counted, put where the ids of their buckets are made from.

A matcher's inputs do not reach metadata, and a bucket whose id cannot be made lets its request pass: so each route says
all that its quotas need, and a missing value is written as `-`. The objects, each `tollhouse.quota.<word>`:

    rate           the kind of the route's own limit, `route_limit` its id
    tier           the tier of the caller (`anonymous_tier` on a route without authentication)
    <key of per>   `=` and its value
"""

from collections.abc import Iterator
from typing import Final

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.extensions.filters.common.set_filter_state.v3.value_pb2 import FilterStateValue
from envoy.extensions.filters.http.set_filter_state.v3.set_filter_state_pb2 import Config
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from google.protobuf.any_pb2 import Any

from gateway import quotas
from gateway.claims import claim_path
from gateway.limits import tier_key
from gateway.model import Listener
from gateway.quotas import Quota
from gateway.resolve import ResolvedRoute
from xds_server.compiler.context import Context
from xds_server.compiler.expressions import known_tier
from xds_server.compiler.filters import Stage, optional_filter, ratelimit
from xds_server.compiler.identity import DECIDED_NAMESPACE, JWT_NAMESPACE, Identity, RouteSpec
from xds_server.compiler.wire import fingerprint, pack

NAME: Final = "tollhouse/quota_keys"
PREFIX: Final = "tollhouse.quota."


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    return optional_filter(NAME, Config())


def on_route(context: Context, spec: RouteSpec) -> Any | None:
    own, tiers = of_route(spec), of_tiers(context, spec)
    if spec.resolved is None or (own is None and not tiers):
        return None
    said = list(words(context, spec.identity, spec.resolved, own, tiers))
    return pack(Config(on_request_headers=[value(word, text) for word, text in said]))


def of_route(spec: RouteSpec) -> Quota | None:
    return None if spec.resolved is None else quotas.of_route(spec.resolved)


def of_tiers(context: Context, spec: RouteSpec) -> tuple[Quota, ...]:
    """As where they are exact, a tier's limits count what is sent on. Without authentication there is one tier only."""
    if spec.resolved is None or not spec.reaches_upstream:
        return ()
    anonymous = spec.identity.kind == "open"
    found = context.once(("quotas", anonymous), lambda: quotas.of_tiers(context.gateway, anonymous=anonymous))
    return tuple(one for one in found if not anonymous or one.tier == spec.resolved.tier)


def words(
    context: Context, identity: Identity, route: ResolvedRoute, own: Quota | None, tiers: tuple[Quota, ...]
) -> Iterator[tuple[str, str]]:
    """Each object's word and its text, with Envoy's command operators in it."""
    if own is not None:
        yield "rate", rate(own)
        yield "route_limit", own.head[1]
    if tiers:
        tier = known_tier(context, identity, route)
        yield tier_key(anonymous=identity.kind == "open"), route.tier if identity.kind == "open" else f"%CEL({tier})%"
    keys = dict.fromkeys(key for one in (*tiers, *([own] if own else ())) for key in one.keys)
    for key in keys:
        yield key, "=" + key_text(identity, route, key)


def rate(quota: Quota) -> str:
    """Limits of one rate that are counted by the same keys are one kind: a new route changes no matcher."""
    spent = f"{quota.requests}/{quota.seconds}s"
    return f"{spent} {fingerprint((), repr((quota.requests, quota.seconds, quota.burst, quota.keys)))}"


def key_text(identity: Identity, route: ResolvedRoute, key: str) -> str:
    match key:
        case "remote_address":
            return "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
        case "route":
            return route.full_name
        case "client" if identity.kind == "native":
            return metadata_text(JWT_NAMESPACE, identity.providers[0], "sub")
        case "client":
            return metadata_text(DECIDED_NAMESPACE, "client")
    path = claim_path(key.removeprefix("claim:"))
    if not identity.providers:
        return ratelimit.UNKNOWN
    return f"%CEL({ratelimit.first_claim(identity.providers, path)})%"


def metadata_text(namespace: str, *path: str) -> str:
    return f"%DYNAMIC_METADATA({':'.join((namespace, *path))})%"


def value(word: str, text: str) -> FilterStateValue:
    source = SubstitutionFormatString(text_format_source=DataSource(inline_string=text))
    return FilterStateValue(object_key=PREFIX + word, factory_key="envoy.string", format_string=source)


STAGE: Final = Stage(NAME, "before the quotas, whose buckets are called by it", configure, on_route)
