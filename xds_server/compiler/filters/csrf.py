"""CSRF: a request that changes something comes from a page of the same host, or of one that the operator trusts.

Browsers say where a page is from (Origin, else Referer). Envoy compares hosts and looks at no scheme, which is why the
language takes hosts. It strips the port of the request's host before, so a listener's own port is added back here.
After cors, so that a refusal has its headers; before anybody is asked for credentials.
"""

from collections.abc import Iterator
from typing import Final

from envoy.config.core.v3.base_pb2 import RuntimeFractionalPercent
from envoy.extensions.filters.http.csrf.v3.csrf_pb2 import CsrfPolicy
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.v3.percent_pb2 import FractionalPercent
from google.protobuf.any_pb2 import Any

from gateway.model import Csrf, Listener
from gateway.resolve import ResolvedRoute
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, optional_filter
from xds_server.compiler.identity import RouteSpec
from xds_server.compiler.wire import exact, literal, regex

NAME: Final = "envoy.filters.http.csrf"
_ALWAYS: Final = RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100))


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    return optional_filter(NAME, CsrfPolicy(filter_enabled=_ALWAYS))


def on_route(context: Context, spec: RouteSpec) -> Any | None:
    route = spec.resolved
    csrf = route.traffic.csrf if route is not None else None
    if route is None or csrf is None:
        return None
    key = (NAME, id(csrf), route.listener, route.hosts)
    return context.packed(key, lambda: policy(csrf, own_hosts(context, route)))


def policy(csrf: Csrf, own: tuple[str, ...]) -> CsrfPolicy:
    trusted = [origin(text) for text in csrf.additional_origins]
    return CsrfPolicy(filter_enabled=_ALWAYS, additional_origins=[*map(exact, own), *trusted])


def own_hosts(context: Context, route: ResolvedRoute) -> tuple[str, ...]:
    """The route's hosts with its listener's port, as browsers write them. A wildcard has no one spelling."""
    return tuple(_own_hosts(context, route))


def _own_hosts(context: Context, route: ResolvedRoute) -> Iterator[str]:
    listener = context.gateway.listeners.get(route.listener)
    port = context.settings.port_of(route.listener, listener) if listener is not None else 0
    if port not in {0, 80, 443}:
        yield from (f"{host}:{port}" for host in route.hosts if "*" not in host)


def origin(text: str) -> StringMatcher:
    """`*.example.com` takes one label or more in place of the star."""
    if not text.startswith("*."):
        return exact(text)
    return regex(f"[a-z0-9-]+(\\.[a-z0-9-]+)*{literal(text[1:])}")


STAGE: Final = Stage(NAME, "a forged request is refused before it costs anybody a decision", configure, on_route)
