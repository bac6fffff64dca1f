"""What happens to a request that a route takes: sent on to upstreams, answered, or redirected."""

from collections.abc import Mapping
from typing import Final

from envoy.config.core.v3.base_pb2 import DataSource, HeaderValue, HeaderValueOption, RuntimeFractionalPercent
from envoy.config.route.v3.route_components_pb2 import (
    DirectResponseAction,
    HeaderMatcher,
    RedirectAction,
    RetryPolicy,
    RouteAction,
    WeightedCluster,
)
from envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2 import PreviousHostsPredicate
from envoy.type.v3.percent_pb2 import FractionalPercent

from gateway.model import Backend, HeaderEdits, Listener, ListenerRedirect, Mirror, PathMatch, Redirect, Retry, Route
from gateway.resolve import NO_EDITS, ResolvedRoute, merge_edits
from xds_server.compiler import rewrites
from xds_server.compiler.context import Context
from xds_server.compiler.errors import ClosedError, CompileError
from xds_server.compiler.hashing import hash_policies
from xds_server.compiler.match import method_is
from xds_server.compiler.wire import duration, pack, uint32

IDEMPOTENT: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE")  # RFC 9110 9.2.2
DEFAULT_PORTS: Final = {"HTTP": 80, "HTTPS": 443}
CONDITIONS: Final = {
    "connect_failure": "connect-failure",
    "reset": "reset",
    "refused_stream": "refused-stream",
    "gateway_error": "gateway-error",
    "5xx": "5xx",
    "retriable_4xx": "retriable-4xx",
    "cancelled": "cancelled",
    "deadline_exceeded": "deadline-exceeded",
    "internal": "internal",
    "resource_exhausted": "resource-exhausted",
    "unavailable": "unavailable",
}
PREVIOUS_HOSTS: Final = RetryPolicy.RetryHostPredicate(
    name="envoy.retry_host_predicates.previous_hosts", typed_config=pack(PreviousHostsPredicate())
)
STATUSES: Final = {
    301: RedirectAction.MOVED_PERMANENTLY,
    302: RedirectAction.FOUND,
    303: RedirectAction.SEE_OTHER,
    307: RedirectAction.TEMPORARY_REDIRECT,
    308: RedirectAction.PERMANENT_REDIRECT,
}


def forward(context: Context, route: ResolvedRoute, backends: tuple[Backend, ...]) -> RouteAction:
    action = RouteAction(
        timeout=duration(route.timeouts.request),
        idle_timeout=duration(route.timeouts.idle),
        retry_policy=retries(context, route.retry, only_idempotent=route.retry_inherited) if route.retry else None,
    )
    for index, backend in enumerate(backends):
        check_upstream(context, backend.upstream, "backends", index, "upstream")
    if len(backends) == 1 and not edited(backends[0]):
        action.cluster = backends[0].upstream
    else:
        action.weighted_clusters.CopyFrom(weighted(context, route, backends))
    action.hash_policy.extend(hash_policies(context, backends))
    if (lifetime := stream_duration(route)) is not None:
        action.max_stream_duration.CopyFrom(lifetime)
    if route.route.rewrite is not None:
        rewrites.apply(action, route.route.rewrite, route.match.where)
    if route.route.mirror is not None:
        check_upstream(context, route.route.mirror.upstream, "mirror", "upstream")
        action.request_mirror_policies.append(mirrored(route.route.mirror))
    action.upgrade_configs.extend(RouteAction.UpgradeConfig(upgrade_type=name) for name in route.route.upgrades)
    return action


def stream_duration(route: ResolvedRoute) -> RouteAction.MaxStreamDuration | None:
    """How long a stream may live. A gRPC caller's own `grpc-timeout` holds too, up to what the route allows."""
    lifetime = route.timeouts.stream
    if lifetime is None and route.match.grpc is None:
        return None
    return RouteAction.MaxStreamDuration(
        max_stream_duration=duration(lifetime) if lifetime is not None else None,
        grpc_timeout_header_max=duration(lifetime or route.timeouts.request) if route.match.grpc else None,
    )


def mirrored(mirror: Mirror) -> RouteAction.RequestMirrorPolicy:
    """The copy keeps its host: a mirror that tells its sites apart would not know one that ends in `-shadow`."""
    share = FractionalPercent(numerator=round(mirror.percent * 10_000), denominator=FractionalPercent.MILLION)
    return RouteAction.RequestMirrorPolicy(
        cluster=mirror.upstream,
        runtime_fraction=RuntimeFractionalPercent(default_value=share),
        disable_shadow_host_suffix_append=True,
    )


def check_upstream(context: Context, name: str, *field: str | int) -> None:
    """Envoy would send to a cluster that it does not have, and answer 503."""
    if name in context.closed_upstreams:
        raise ClosedError(context.closed_upstreams[name])
    if name not in context.gateway.upstreams:
        raise CompileError(f"there is no upstream {name!r}", *field)


def edited(backend: Backend) -> bool:
    return backend.request_headers is not None or backend.response_headers is not None


def edits_by_backend(route: Route) -> bool:
    """Whether backends make the route's header edits: Envoy would make a backend's own first, and the route's win."""
    return any(map(edited, route.backends or ()))


def weighted(context: Context, route: ResolvedRoute, backends: tuple[Backend, ...]) -> WeightedCluster:
    if not any(backend.weight for backend in backends):
        raise CompileError("every backend has weight 0", "backends")
    if not edits_by_backend(route.route):
        return WeightedCluster(clusters=[share_of(backend, NO_EDITS, NO_EDITS) for backend in backends])
    floor = context.gateway.floor.response_headers
    return WeightedCluster(
        clusters=[
            share_of(
                backend,
                then(route.request_headers, backend.request_headers),
                then(then(route.response_headers, backend.response_headers), floor),
            )
            for backend in backends
        ]
    )


def share_of(backend: Backend, request: HeaderEdits, response: HeaderEdits) -> WeightedCluster.ClusterWeight:
    return WeightedCluster.ClusterWeight(
        name=backend.upstream,
        weight=uint32(backend.weight),
        request_headers_to_add=header_options(request.set, request.add),
        request_headers_to_remove=request.remove,
        response_headers_to_add=header_options(response.set, response.add),
        response_headers_to_remove=response.remove,
    )


def then(before: HeaderEdits, edits: HeaderEdits | None) -> HeaderEdits:
    """One edit in place of two after each other. Envoy removes before it adds, so what goes again is not added."""
    if edits is None:
        return before
    gone = {*edits.remove, *edits.set}
    kept = HeaderEdits(
        set={name: value for name, value in before.set.items() if name not in gone},
        add={name: value for name, value in before.add.items() if name not in gone},
        remove=before.remove,
    )
    return merge_edits((kept, edits))


def retries(context: Context, retry: Retry, *, only_idempotent: bool) -> RetryPolicy:
    key = ("retry", id(retry), only_idempotent)
    return context.once(key, lambda: retry_policy(retry, only_idempotent=only_idempotent))


def retry_policy(retry: Retry, *, only_idempotent: bool) -> RetryPolicy:
    """`only_idempotent`: a policy that a route merely inherits must not repeat a POST."""
    conditions = [CONDITIONS[name] for name in retry.conditions]
    conditions += ["retriable-status-codes"] if retry.codes else []
    return RetryPolicy(
        retry_on=",".join(conditions),
        num_retries=uint32(retry.attempts),
        retriable_status_codes=retry.codes,
        per_try_timeout=duration(retry.per_try_timeout) if retry.per_try_timeout else None,
        per_try_idle_timeout=duration(retry.per_try_idle_timeout) if retry.per_try_idle_timeout else None,
        retry_back_off=RetryPolicy.RetryBackOff(
            base_interval=duration(max(1, retry.backoff.base)),
            max_interval=duration(max(1, retry.backoff.base, retry.backoff.max)),
        ),
        retry_host_predicate=[PREVIOUS_HOSTS] if retry.avoid_previous_hosts else [],
        host_selection_retry_max_attempts=3 if retry.avoid_previous_hosts else 0,
        retriable_request_headers=[method_is(IDEMPOTENT)] if only_idempotent else list[HeaderMatcher](),
    )


def respond(status: int, body: str) -> DirectResponseAction:
    return DirectResponseAction(status=status, body=DataSource(inline_string=body) if body else None)


def redirect(spec: Redirect, path: PathMatch, listener: Listener, port: int) -> RedirectAction:
    """`port`: where the listener really listens. A host's port is stripped before routing, so it is put back here."""
    action = RedirectAction(response_code=STATUSES[spec.status], host_redirect=spec.host or "")
    if spec.scheme is not None:
        action.scheme_redirect = spec.scheme
    same_place = spec.scheme is None and spec.host is None
    if spec.port is not None:
        action.port_redirect = spec.port
    elif same_place and port != DEFAULT_PORTS[listener.protocol]:
        action.port_redirect = port
    if spec.path is not None or (spec.path_prefix is not None and path.exact is not None):
        action.path_redirect = spec.path or spec.path_prefix or "/"
    elif spec.path_prefix is not None:
        action.regex_rewrite.CopyFrom(rewrites.replace_prefix(path, spec.path_prefix, "redirect", "path_prefix"))
    elif spec.path_regex is not None:
        action.regex_rewrite.CopyFrom(rewrites.replace_regex(spec.path_regex))
    return action


def redirect_all(spec: ListenerRedirect) -> RedirectAction:
    action = RedirectAction(response_code=STATUSES[spec.status], scheme_redirect=spec.scheme)
    if spec.port is not None:
        action.port_redirect = spec.port
    return action


def header_options(set_: Mapping[str, str], add: Mapping[str, str]) -> list[HeaderValueOption]:
    overwrite = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    append = HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
    return [header_option(name, value, overwrite) for name, value in set_.items()] + [
        header_option(name, value, append) for name, value in add.items()
    ]


def header_option(name: str, value: str, action: HeaderValueOption.HeaderAppendAction) -> HeaderValueOption:
    """Values are literal: `%` would begin one of Envoy's substitutions."""
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value.replace("%", "%%")), append_action=action, keep_empty_value=True
    )
