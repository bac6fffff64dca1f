"""Takes the cookies of a login off what upstreams get: the ID token stands in clear in them by then.

Envoy removes a header as a whole or not at all. So the rest of the header is put aside as metadata, which takes 8 KiB
and nothing of what is longer, and written anew.
"""

from typing import Final

from envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutation as Mutation
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.extensions.filters.http.header_mutation.v3.header_mutation_pb2 import (
    HeaderMutation,
    HeaderMutationPerRoute,
    Mutations,
)
from envoy.extensions.filters.http.header_to_metadata.v3.header_to_metadata_pb2 import Config
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.type.matcher.v3.regex_pb2 import RegexMatchAndSubstitute, RegexMatcher
from google.protobuf.any_pb2 import Any

from gateway.model import Listener
from xds_server.compiler import names
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, optional_filter
from xds_server.compiler.identity import RouteSpec

ASIDE: Final = "tollhouse/session_cookies/aside"
BACK: Final = "tollhouse/session_cookies/back"
NAMESPACE: Final = "tollhouse.session_cookies"
OURS: Final = rf"(^|; *)(?:{names.SESSION_COOKIE}[^=;]*=[^;]*(?:; *|$))+"


def take(context: Context, listener: Listener) -> HttpFilter | None:
    return optional_filter(ASIDE, Config())


def put(context: Context, listener: Listener) -> HttpFilter | None:
    return optional_filter(BACK, HeaderMutation())


def take_on_route(context: Context, spec: RouteSpec) -> Any | None:
    return context.packed((ASIDE, None), others_aside) if spec.identity.login is not None else None


def put_on_route(context: Context, spec: RouteSpec) -> Any | None:
    return context.packed((BACK, None), others_back) if spec.identity.login is not None else None


def others_aside() -> Config:
    """Other cookies; nothing where there are none."""
    rewrite = RegexMatchAndSubstitute(pattern=RegexMatcher(regex=OURS), substitution=r"\1")
    found = Config.KeyValuePair(metadata_namespace=NAMESPACE, key="cookie", regex_value_rewrite=rewrite)
    return Config(request_rules=[Config.Rule(header="cookie", on_header_present=found, remove=True)])


def others_back() -> HeaderMutationPerRoute:
    cookie = HeaderValue(key="cookie", value=f"%DYNAMIC_METADATA({NAMESPACE}:cookie)%")
    option = HeaderValueOption(header=cookie, append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD)
    return HeaderMutationPerRoute(mutations=Mutations(request_mutations=[Mutation(append=option)]))


TAKE: Final = Stage(ASIDE, "nothing behind the check of tokens needs the session", take, take_on_route)
PUT: Final = Stage(BACK, "keys in cookies are looked up yet", put, put_on_route)
