"""What happens to a request that a route takes: sent on to upstreams, answered, or redirected."""

from collections.abc import Mapping
from typing import Final

from envoy.config.core.v3.base_pb2 import DataSource, HeaderValue, HeaderValueOption
from envoy.config.route.v3.route_components_pb2 import (
    DirectResponseAction,
    HeaderMatcher,
    RedirectAction,
    RetryPolicy,
    RouteAction,
    WeightedCluster,
)
from envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2 import PreviousHostsPredicate
from envoy.type.matcher.v3.regex_pb2 import RegexMatchAndSubstitute, RegexMatcher

from gateway.model import Backend, Listener, ListenerRedirect, PathMatch, Redirect, Retry
from gateway.resolve import ResolvedRoute
from xds_server.compiler.context import Context
from xds_server.compiler.errors import ClosedError, CompileError
from xds_server.compiler.match import method_is
from xds_server.compiler.wire import duration, literal, pack, uint32

IDEMPOTENT: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE")  # RFC 9110 9.2.2
DEFAULT_PORTS: Final = {"HTTP": 80, "HTTPS": 443}
CONDITIONS: Final = {
    "connect_failure": "connect-failure",
    "reset": "reset",
    "refused_stream": "refused-stream",
    "gateway_error": "gateway-error",
}
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
        check_upstream(context, backend.upstream, index)
    if len(backends) == 1:
        action.cluster = backends[0].upstream
    else:
        action.weighted_clusters.CopyFrom(weighted(backends))
    return action


def check_upstream(context: Context, name: str, index: int) -> None:
    """Envoy would send to a cluster that it does not have, and answer 503."""
    if name in context.closed_upstreams:
        raise ClosedError(context.closed_upstreams[name])
    if name not in context.gateway.upstreams:
        raise CompileError(f"there is no upstream {name!r}", "backends", index, "upstream")


def weighted(backends: tuple[Backend, ...]) -> WeightedCluster:
    if not any(backend.weight for backend in backends):
        raise CompileError("every backend has weight 0", "backends")
    return WeightedCluster(
        clusters=[WeightedCluster.ClusterWeight(name=b.upstream, weight=uint32(b.weight)) for b in backends]
    )


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
        retry_back_off=RetryPolicy.RetryBackOff(
            base_interval=duration(max(1, retry.backoff.base)),
            max_interval=duration(max(1, retry.backoff.base, retry.backoff.max)),
        ),
        retry_host_predicate=[
            RetryPolicy.RetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts", typed_config=pack(PreviousHostsPredicate())
            )
        ],
        host_selection_retry_max_attempts=3,
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
        action.regex_rewrite.CopyFrom(replace_prefix(path, spec.path_prefix))
    return action


def replace_prefix(path: PathMatch, by: str) -> RegexMatchAndSubstitute:
    """Envoy's `prefix_rewrite` makes `//x` of `/api/x` when the prefix is replaced by `/`; this does not."""
    if path.prefix is None:
        raise CompileError("path_prefix replaces the prefix of a prefix match", "redirect", "path_prefix")
    old, new = literal(path.prefix.rstrip("/")), by.rstrip("/")
    pattern, substitution = (f"^{old}", new) if old and new else (f"^{old}/?", f"{new}/")
    return RegexMatchAndSubstitute(pattern=RegexMatcher(regex=pattern), substitution=substitution.replace("\\", "\\\\"))


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
