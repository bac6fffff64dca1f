"""oauth2: sends browsers without a session to their issuer, and keeps the ID token of a login in a cookie.

The filter in the chain is empty and off; a route that accepts a login brings the whole configuration along. The cookies
are encrypted and signed; the filter puts the ID token in clear into the request's cookie, where jwt_authn verifies it
like any other token. It stands before everything that wants to know who calls.
"""

from collections.abc import Iterator
from typing import Final

from envoy.config.core.v3.http_uri_pb2 import HttpUri
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.filters.http.oauth2.v3.oauth_pb2 import (
    CookieConfig,
    CookieConfigs,
    OAuth2,
    OAuth2Config,
    OAuth2Credentials,
)
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.type.matcher.v3.path_pb2 import PathMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.any_pb2 import Any

from gateway.model import Listener, Oidc
from xds_server.compiler import names
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, optional_filter
from xds_server.compiler.identity import Identity, RouteSpec
from xds_server.compiler.oauth2_per_route import OAuth2PerRoute
from xds_server.compiler.tls import sds
from xds_server.compiler.wire import boolean, duration, exact, literal, regex

NAME: Final = "tollhouse/oauth2"
TOKEN_TIMEOUT: Final = 5_000
DEFAULT_LIFE: Final = 3_600_000
"""Of a token whose issuer says nothing about it."""
STATS: Final = "oidc"


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    return optional_filter(NAME, OAuth2())


def on_route(context: Context, spec: RouteSpec) -> Any | None:
    identity = spec.identity
    if identity.login is None:
        return None
    name = identity.login
    return context.packed((NAME, identity), lambda: OAuth2PerRoute(config=config(context, name, identity)))


def config(context: Context, name: str, identity: Identity) -> OAuth2Config:
    spec = context.gateway.oidc[name]
    return OAuth2Config(
        token_endpoint=HttpUri(
            uri=spec.token_endpoint, cluster=names.token_endpoint(name), timeout=duration(TOKEN_TIMEOUT)
        ),
        authorization_endpoint=spec.authorization_endpoint,
        redirect_uri="%REQ(:scheme)%://%REQ(:authority)%" + spec.redirect_path,
        redirect_path_matcher=path(spec.redirect_path),
        signout_path=path(spec.logout_path),
        credentials=credentials(name, spec),
        auth_scopes=spec.scopes,
        auth_type=OAuth2Config.URL_ENCODED_BODY,
        use_refresh_token=boolean(True),
        default_expires_in=duration(DEFAULT_LIFE),
        preserve_authorization_header=True,  # the token of a caller who is no browser is jwt_authn's
        disable_access_token_set_cookie=True,  # nobody needs it here, and a cookie has little room
        pass_through_matcher=others(context, identity),
        deny_redirect_matcher=[not_a_page()],
        cookie_configs=cookies(),
        stat_prefix=STATS,
    )


def credentials(name: str, spec: Oidc) -> OAuth2Credentials:
    words = OAuth2Credentials.CookieNames.DESCRIPTOR.fields_by_name
    return OAuth2Credentials(
        client_id=spec.client_id,
        token_secret=sds(names.client_secret(name)),
        hmac_secret=sds(names.session_key(name)),
        cookie_names=OAuth2Credentials.CookieNames(**{word: names.session_cookie(word, name) for word in words}),
    )


def path(text: str) -> PathMatcher:
    return PathMatcher(path=exact(text))


def cookies() -> CookieConfigs:
    """Lax: sent when a link leads here, and not with what another site posts."""
    words = CookieConfigs.DESCRIPTOR.fields_by_name
    return CookieConfigs(**{word: CookieConfig(same_site=CookieConfig.LAX) for word in words})


def not_a_page() -> HeaderMatcher:
    """What no browser shows as a page gets 401: a login would lose its body."""
    return HeaderMatcher(name=":method", string_match=exact("GET"), invert_match=True)


def others(context: Context, identity: Identity) -> Iterator[HeaderMatcher]:
    """Requests with another credential that the route accepts are for whoever verifies those."""
    found: dict[str, HeaderMatcher] = {}
    for provider in identity.bearers:
        spec = context.gateway.jwt_providers[provider].from_
        for cookie in spec.cookies:
            found[f"cookie {cookie}"] = HeaderMatcher(name="cookie", string_match=has_cookie(cookie))
        headers = [header.name for header in spec.headers] or ([] if spec.cookies else ["authorization"])
        found |= {header: present(header) for header in headers}
    for source in identity.api_keys:
        keys = context.gateway.api_keys[source].from_
        found |= {header: present(header) for header in keys.headers}
        found |= {f"cookie {one}": HeaderMatcher(name="cookie", string_match=has_cookie(one)) for one in keys.cookies}
        found |= {f"query {one}": HeaderMatcher(name=":path", string_match=has_query(one)) for one in keys.query}
    if identity.basic:
        found["authorization"] = present("authorization")
    yield from (found[key] for key in sorted(found))


def present(header: str) -> HeaderMatcher:
    return HeaderMatcher(name=header, present_match=True)


def has_cookie(name: str) -> StringMatcher:
    return regex(f"(?:.*; *)?{literal(name)}=.*")


def has_query(name: str) -> StringMatcher:
    return regex(rf"[^?]*\?(?:.*&)?{literal(name)}=.*")


STAGE: Final = Stage(NAME, "a browser logs in before its token is checked", configure, on_route)
