"""RBAC, action DENY: a path that different servers read differently is refused before anything looks at it.

What Envoy's own normalisation leaves: double encoding (`%25`), path parameters (`;`), backslashes, encoded control and
non-ASCII bytes (overlong UTF-8 among them), malformed escapes. It is written as the paths that are allowed, and
negated: a pattern of forbidden bytes would let pass whatever RE2 cannot read as UTF-8.
"""

from typing import Final

from envoy.config.rbac.v3.rbac_pb2 import RBAC, Permission, Policy, Principal
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.type.matcher.v3.path_pb2 import PathMatcher

from gateway.model import Listener
from gateway.normal import PLAIN
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, http_filter
from xds_server.compiler.wire import regex

NAME: Final = "tollhouse/strict_paths"


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    if not listener.strict_paths:
        return None
    ambiguous = Permission(not_rule=Permission(url_path=PathMatcher(path=regex(PLAIN))))
    policy = Policy(permissions=[ambiguous], principals=[Principal(any=True)])
    return http_filter(NAME, rbac_pb2.RBAC(rules=RBAC(action=RBAC.DENY, policies={"ambiguous-path": policy})))


STAGE: Final = Stage(NAME, "an ambiguous path must not reach anything that decides by path", configure)
