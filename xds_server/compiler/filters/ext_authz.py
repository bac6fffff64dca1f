"""ext_authz: asks the decision service who calls, where Envoy cannot tell by itself. By ECDS: key headers may change.

An error or a slow answer is a 503, never an allow. The service denies a request whose route sent no context extensions.
"""

from typing import Final

from envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutationRules
from envoy.config.core.v3.base_pb2 import HeaderValue
from envoy.config.core.v3.config_source_pb2 import V3
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.extensions.filters.http.ext_authz.v3.ext_authz_pb2 import CheckSettings, ExtAuthz, ExtAuthzPerRoute
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import ListStringMatcher
from envoy.type.v3.http_status_pb2 import HttpStatus, ServiceUnavailable
from google.protobuf.any_pb2 import Any

from gateway.model import Gateway, Listener
from xds_server.compiler import names
from xds_server.compiler.combining import combined
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError
from xds_server.compiler.filters import Stage, discovered_filter
from xds_server.compiler.identity import JWT_NAMESPACE, Identity, RouteSpec
from xds_server.compiler.wire import boolean, exact, extension, grpc_service, literal, pack

NAME: Final = "tollhouse/ext_authz"
TIMEOUT: Final = 500
ADDRESS: Final = HeaderValue(key="x-client-address", value="%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")
"""The caller's, behind trusted proxies too: a CheckRequest has that of the connection only."""


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    return discovered_filter(NAME, ExtAuthz)


def on_route(context: Context, spec: RouteSpec) -> Any | None:
    if spec.identity.kind != "decided":
        return context.packed((NAME, None), lambda: ExtAuthzPerRoute(disabled=True))
    if spec.resolved is None:
        raise CompileError("a route without a name cannot ask for a decision")
    extensions = {
        "route": spec.resolved.full_name,
        "jwt": ",".join(spec.identity.providers),
        "api_keys": ",".join(spec.identity.api_keys),
    } | _seldom(spec.identity)
    if combined(context, spec):
        extensions["limits"] = "here"
    return pack(ExtAuthzPerRoute(check_settings=CheckSettings(context_extensions=extensions)))


def _seldom(identity: Identity) -> dict[str, str]:
    """What most routes have no need to say. Their order is the document's: the first of all names the caller."""
    lists = {"basic": identity.basic, "certificates": identity.certificates, "all_of": identity.all_of}
    said = {word: ",".join(names) for word, names in lists.items() if names}
    return said | ({"optional": "true"} if identity.optional else {})


def extend(context: Context) -> TypedExtensionConfig:
    carriers = sorted(headers_with_credentials(context.gateway))
    service = grpc_service(names.DECISIONS, TIMEOUT)
    service.initial_metadata.append(ADDRESS)
    config = ExtAuthz(
        transport_api_version=V3,
        grpc_service=service,
        failure_mode_allow=False,
        status_on_error=HttpStatus(code=ServiceUnavailable),
        clear_route_cache=False,  # or the request could move to a route that it was not authorised for
        validate_mutations=True,
        encode_raw_headers=True,
        include_peer_certificate=bool(context.gateway.client_certificates),
        allowed_headers=ListStringMatcher(patterns=[exact(name) for name in (*carriers, "x-request-id")]),
        decoder_header_mutation_rules=mutation_rules(context),
        metadata_context_namespaces=[JWT_NAMESPACE],
        charge_cluster_response_stats=boolean(True),
    )
    return extension(NAME, config)


def headers_with_credentials(gateway: Gateway) -> set[str]:
    """Those that the decision service must see: no other header leaves Envoy for it."""
    keys = [keys.from_ for keys in gateway.api_keys.values()]
    found = {header for source in keys for header in source.headers}
    found |= {"cookie"} if any(source.cookies for source in keys) else set()
    return found | ({"authorization"} if gateway.basic_auth else set())


def mutation_rules(context: Context) -> HeaderMutationRules:
    """The decision service may take off credentials and write the client's id, and nothing else."""
    gateway = context.gateway
    allowed = headers_with_credentials(gateway)
    forwarded = [source.forward_client_id for source in gateway.api_keys.values()]
    forwarded += [source.forward_client_id for source in gateway.client_certificates.values()]
    forwarded += [source.forward_username for source in gateway.basic_auth.values()]
    allowed |= {header for header in forwarded if header}
    rules = HeaderMutationRules(disallow_all=boolean(True))
    if allowed:
        rules.allow_expression.CopyFrom(RegexMatcher(regex="|".join(literal(name) for name in sorted(allowed))))
    return rules


STAGE: Final = Stage(
    NAME,
    "keys are looked up, and token holders named, before anything weighs them",
    configure,
    on_route,
    extension=extend,
)
