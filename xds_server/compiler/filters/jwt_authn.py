"""jwt_authn: verifies JSON Web Tokens by the document's providers. By ECDS: keys and providers change without a drain.

Envoy's defaults accept a token without `exp`, one in the query string, and 60 s of clock skew; each provider says
otherwise here. A token for somebody else's audience is answered 403 by Envoy, every other bad one 401 with
WWW-Authenticate (RFC 6750), which is why failure responses are not stripped.
"""

import base64
import json
from typing import Final

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.route.v3.route_components_pb2 import RouteMatch
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import (
    JwtAuthentication,
    JwtCacheConfig,
    JwtClaimToHeader,
    JwtHeader,
    JwtRequirement,
    JwtRequirementAndList,
    JwtRequirementOrList,
    PerRouteConfig,
    RequirementRule,
)
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtProvider as EnvoyProvider
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty

from gateway.jwks import keyset_name
from gateway.model import HeaderSource, JwtProvider, Listener
from xds_server.compiler.context import Context
from xds_server.compiler.errors import CompileError
from xds_server.compiler.filters import Stage, discovered_filter
from xds_server.compiler.identity import Identity, RouteSpec, identify
from xds_server.compiler.names import session_cookie
from xds_server.compiler.settings import HmacKey, KeySet
from xds_server.compiler.wire import duration, extension

NAME: Final = "tollhouse/jwt_authn"
CACHED_TOKENS: Final = 1000
_BEARER: Final = (HeaderSource(name="authorization", prefix="Bearer "),)


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    return discovered_filter(NAME, JwtAuthentication)


def on_route(context: Context, spec: RouteSpec) -> Any | None:
    requirement = spec.identity.requirement
    if not requirement:
        return context.packed((NAME, None), lambda: PerRouteConfig(disabled=True))
    return context.packed((NAME, requirement), lambda: PerRouteConfig(requirement_name=requirement))


def extend(context: Context) -> TypedExtensionConfig:
    """All providers and every requirement that a route names. Envoy does not check those: an unknown one is a 403."""
    names = sorted(set(context.gateway.jwt_providers) - set(context.closed_providers))
    identities = sorted(used_identities(context), key=lambda identity: identity.requirement)
    config = JwtAuthentication(
        providers={name: provider(context, name) for name in names}
        | {name: of_login(context, name) for name in logins_of(context, names)},
        requirement_map={identity.requirement: required(identity) for identity in identities},
        bypass_cors_preflight=False,
        strip_failure_response=False,
    )
    if names:  # no match means "allow": what forgot to name its requirement needs a token
        everything = RequirementRule(
            match=RouteMatch(prefix="/"), requires=required(Identity("native", "", tuple(names), bearers=tuple(names)))
        )
        config.rules.append(everything)
    return extension(NAME, config)


def logins_of(context: Context, providers: list[str]) -> list[str]:
    return sorted(name for name, login in context.gateway.oidc.items() if login.jwt_provider in providers)


def of_login(context: Context, name: str) -> EnvoyProvider:
    """The login's provider, with the session's cookie as the only place of the token. What it says is the same."""
    found = EnvoyProvider()
    found.CopyFrom(provider(context, context.gateway.oidc[name].jwt_provider))
    found.ClearField("from_headers")
    found.from_cookies[:] = [session_cookie("id_token", name)]
    return found


def used_identities(context: Context) -> set[Identity]:
    """Every way of authenticating with a token that a route of the document uses."""
    found = {}
    for route in {id(route.authentication): route for route in context.kinds}.values():
        try:
            identity = identify(context, route)
        except CompileError:
            continue  # that route is closed, and reported where it is compiled
        if identity.requirement and context.closed_providers.keys().isdisjoint(identity.providers):
            found[identity.requirement] = identity
    return set(found.values())


def required(identity: Identity) -> JwtRequirement:
    """A token of any of the providers, or of each; where one may be missing, the decision service sees to that."""
    tokens = [JwtRequirement(provider_name=name) for name in identity.tokens]
    if identity.without_token:
        tokens.append(JwtRequirement(allow_missing=Empty()))
    if len(tokens) == 1:
        return tokens[0]
    if identity.all_of:
        return JwtRequirement(requires_all=JwtRequirementAndList(requirements=tokens))
    return JwtRequirement(requires_any=JwtRequirementOrList(requirements=tokens))


def provider(context: Context, name: str) -> EnvoyProvider:
    """Raises CompileError when its keys are missing or unusable."""
    spec = context.gateway.jwt_providers[name]
    headers = spec.from_.headers or (() if spec.from_.cookies else _BEARER)
    return EnvoyProvider(
        issuer=spec.issuer,
        audiences=spec.audiences,
        local_jwks=DataSource(inline_string=jwks(context, spec)),
        from_headers=[JwtHeader(name=h.name, value_prefix=h.prefix) for h in headers],
        from_cookies=spec.from_.cookies,
        require_expiration=True,
        max_lifetime=duration(spec.max_lifetime + spec.clock_skew),  # it is what remains, by this node's clock
        clock_skew_seconds=max(1, -(-spec.clock_skew // 1000)),  # 0 would mean 60
        forward=False,
        payload_in_metadata=name,
        normalize_payload_in_metadata=EnvoyProvider.NormalizePayload(space_delimited_claims=[spec.scope_claim]),
        claim_to_headers=[
            JwtClaimToHeader(claim_name=claim, header_name=header) for claim, header in spec.claims_to_headers.items()
        ],
        jwt_cache_config=JwtCacheConfig(jwt_cache_size=CACHED_TOKENS),
    )


def jwks(context: Context, spec: JwtProvider) -> str:
    """The provider's JSON Web Key Set (RFC 7517). A shared key is bound to HS256, whatever a token's header says."""
    if spec.jwks.inline is not None:
        return checked_keys(spec.jwks.inline)
    if spec.jwks.uri is not None:
        found = context.secrets.get(keyset_name(spec.jwks.uri))
        if isinstance(found, KeySet) and found.keys:
            return found.keys
        fault = found.fault if isinstance(found, KeySet) else "it was not fetched"
        raise CompileError(f"there are no keys from {spec.jwks.uri} yet: {fault}", "jwks", "uri", code="GW602")
    name = spec.jwks.hs256.secret if spec.jwks.hs256 is not None else ""
    secret = context.secrets.get(name)
    if not isinstance(secret, HmacKey):
        raise CompileError(f"the secret store has no HS256 key {name!r}", "jwks", "hs256", "secret", code="GW602")
    if not secret.value:
        raise CompileError(f"the HS256 key {name!r} is empty", "jwks", "hs256", "secret")
    key = base64.urlsafe_b64encode(secret.value).rstrip(b"=").decode()
    return json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "k": key}]})


def checked_keys(inline: str) -> str:
    """An inline key set that is one; a single bad set would make Envoy refuse all providers."""
    try:
        keys = json.loads(inline)["keys"]
        public = bool(keys) and all(key["kty"] in {"RSA", "EC", "OKP"} and "d" not in key for key in keys)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CompileError("the inline JWKS is not a JSON Web Key Set", "jwks", "inline") from None
    if not public:
        raise CompileError("the inline JWKS holds something else than public RSA, EC or OKP keys", "jwks", "inline")
    return inline


STAGE: Final = Stage(
    NAME, "tokens are checked before anyone decides who is calling", configure, on_route, extension=extend
)
