"""CORS (Fetch standard): answers preflights and marks responses, before anybody asks for credentials.

A preflight carries none, so it must be answered before authentication; and a refusal must carry the CORS headers too,
or the browser hides its status from the page.
"""

from collections.abc import Iterator
from typing import Final

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption, RuntimeFractionalPercent
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.v3.percent_pb2 import FractionalPercent
from google.protobuf.any_pb2 import Any

from gateway.model import Cors, Listener
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, http_filter
from xds_server.compiler.identity import RouteSpec
from xds_server.compiler.wire import boolean, exact, literal, regex

NAME: Final = "envoy.filters.http.cors"
_ALWAYS: Final = RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100))


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    return http_filter(NAME, cors_pb2.Cors())


def on_route(context: Context, spec: RouteSpec) -> Any | None:
    cors = spec.resolved.cors if spec.resolved is not None else None
    return None if cors is None else packed_policy(context, cors)


def packed_policy(context: Context, cors: Cors) -> Any:
    return context.packed((NAME, id(cors)), lambda: policy(cors))


def policy(cors: Cors) -> cors_pb2.CorsPolicy:
    return cors_pb2.CorsPolicy(
        allow_origin_string_match=[origin(text) for text in cors.allow_origins],
        allow_methods=", ".join(cors.allow_methods),
        allow_headers=", ".join(cors.allow_headers),
        expose_headers=", ".join(cors.expose_headers),
        max_age=str(cors.max_age // 1000),
        allow_credentials=boolean(cors.allow_credentials),
        filter_enabled=_ALWAYS,
    )


def origin(text: str) -> StringMatcher:
    """`https://*.example.com` takes one label or more in place of the star; `*` alone is every origin."""
    if text == "*" or "*" not in text:
        return exact(text)
    before, _, after = text.partition("*")
    return regex(f"{literal(before)}[a-z0-9-]+(\\.[a-z0-9-]+)*{literal(after)}")


def answers(cors: Cors) -> Iterator[tuple[HeaderMatcher, list[HeaderValueOption]]]:
    """For routes that answer themselves, which the filter passes over: each allowed origin, and what it is told."""
    exposed = ", ".join(cors.expose_headers)
    told = {"access-control-allow-origin": "%REQ(ORIGIN)%", "vary": "origin"}
    told |= {"access-control-allow-credentials": "true"} if cors.allow_credentials else {}
    told |= {"access-control-expose-headers": exposed} if exposed else {}
    headers = [HeaderValueOption(header=HeaderValue(key=name, value=value)) for name, value in told.items()]
    for text in cors.allow_origins:
        allowed = {"present_match": True} if text == "*" else {"string_match": origin(text)}
        yield HeaderMatcher(name="origin", **allowed), headers


STAGE: Final = Stage(
    NAME, "a preflight has no credentials, and a refusal needs the CORS headers too", configure, on_route
)
