"""stateful_session: keeps a session at its endpoint, by a cookie or header that holds the endpoint's address.

It is off but on routes that ask for it. A client can name only endpoints that the cluster has.
"""

from typing import Final

from envoy.extensions.filters.http.stateful_session.v3.stateful_session_pb2 import (
    StatefulSession,
    StatefulSessionPerRoute,
)
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.extensions.http.stateful_session.cookie.v3.cookie_pb2 import CookieBasedSessionState
from envoy.extensions.http.stateful_session.header.v3.header_pb2 import HeaderBasedSessionState
from envoy.type.http.v3.cookie_pb2 import Cookie
from google.protobuf.any_pb2 import Any

from gateway.model import Cookie as CookieSpec
from gateway.model import Listener, SessionPersistence
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError
from xds_server.compiler.filters import Stage, http_filter
from xds_server.compiler.identity import RouteSpec
from xds_server.compiler.wire import duration, extension

NAME: Final = "envoy.filters.http.stateful_session"
STATES: Final = "envoy.http.stateful_session."


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    found = http_filter(NAME, StatefulSession())
    found.disabled = True
    return found


def on_route(context: Context, spec: RouteSpec) -> Any | None:
    route = spec.resolved.route if spec.resolved is not None else None
    if route is None or route.session_persistence is None:
        return None
    if route.backends is None:
        raise CompileError("a route without backends has no endpoint to keep a session at", "session_persistence")
    session = route.session_persistence
    return context.packed((NAME, id(session)), lambda: persistence(session))


def persistence(spec: SessionPersistence) -> StatefulSessionPerRoute:
    """Not strict: a session whose endpoint is gone goes on at another one."""
    if spec.cookie is not None:
        state = extension(STATES + "cookie", CookieBasedSessionState(cookie=cookie(spec.cookie)))
    else:
        state = extension(STATES + "header", HeaderBasedSessionState(name=spec.header))
    return StatefulSessionPerRoute(stateful_session=StatefulSession(session_state=state))


def cookie(spec: CookieSpec) -> Cookie:
    return Cookie(name=spec.name, path=spec.path, ttl=duration(spec.ttl) if spec.ttl else None)


STAGE: Final = Stage(
    NAME, "an endpoint is chosen for requests that will reach one, after all that may refuse them", configure, on_route
)
