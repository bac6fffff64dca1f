"""The one place that names Envoy resources, and that turns such a name back into a place in the document.

An operator's name holds no `/`, so a resource of ours (`tollhouse/…`) can never collide with one of theirs.
"""

from typing import Final

from gateway.problems import Path
from gateway.scopes import UNSCOPED, Scope
from xds_server import resources

DECISIONS: Final = "tollhouse/decisions"
"""The cluster of the decision services: ext_authz and rate limiting."""

STREAMS: Final = "tollhouse/streams"
"""The cluster of what they answer over streams (responses that are kept, quotas), where that is at other addresses."""

QUOTAS: Final = "tollhouse/quotas"
"""The cluster of the decision service that shares out quotas: the same addresses, of which one at a time serves."""

NOWHERE: Final = "tollhouse/nowhere"
"""A cluster without endpoints, for routes that a filter answers (the cors filter only looks at routes to a cluster)."""

UNMATCHED: Final = "tollhouse/unmatched"
"""The route that answers 404 to whatever no other route wants."""

REDIRECT: Final = "tollhouse/redirect"
"""The route of a listener that redirects everything."""

PREFLIGHT: Final = "/preflight"
"""Suffix of the routes that answer a route's CORS preflights; a third segment, so it is no operator's route."""


PATH_HEADER: Final = "x-tollhouse-path"
"""The request's path without its query and with a slash more: what route tables and scopes are searched by."""

LISTENER_HEADER: Final = "x-tollhouse-listener"
"""The name of the listener, by which scopes are searched first."""


def virtual_host(listener: str, host: str) -> str:
    return f"{listener}/{host}"


def scoped_table(listener: str, scope: Scope) -> str:
    """The table of a scope; of a listener without scopes its only one. Neither hosts nor segments hold a `/`."""
    if scope == UNSCOPED:
        return listener
    host, segment = scope.host or "*", scope.segment
    return f"{listener}/{host}" if segment is None else f"{listener}/{host}/{segment}"


def listener_of(table: str) -> str:
    """The listener that a route table or a scope was made for."""
    return table.partition("/")[0]


def preflight(route: str) -> str:
    return route + PREFLIGHT


def token_endpoint(login: str) -> str:
    """The cluster of a login's token endpoint."""
    return f"tollhouse/oidc/{login}"


def client_secret(login: str) -> str:
    return f"tollhouse/oidc/{login}/client-secret"


def session_key(login: str) -> str:
    return f"tollhouse/oidc/{login}/session-key"


SESSION_COOKIE: Final = "tollhouse-oidc-"
"""What the names of all cookies of logins begin with."""


def session_cookie(word: str, login: str) -> str:
    """`id_token`: a browser may hold sessions of several logins of one host."""
    return f"{SESSION_COOKIE}{login}-{word.replace('_', '-')}"


QUIC: Final = "/http3"
"""Suffix of the UDP listener beside an operator's listener."""


def quic_listener(listener: str) -> str:
    return listener + QUIC


def node_certificate(cert_file: str, key_file: str) -> str:
    """The secret of a certificate that is in files on the node."""
    return f"{resources.NODE_FILES}{cert_file}:{key_file}"


def authority_with_crl(ca: str, crl: str) -> str:
    """The secret that holds both."""
    return f"{ca}/{crl}"


_COLLECTIONS: Final = {
    resources.CLUSTER: "upstreams",
    resources.ENDPOINTS: "upstreams",
    resources.LISTENER: "listeners",
    resources.ROUTES: "listeners",
    resources.SCOPED_ROUTES: "listeners",
}


def document_path(type_url: str, name: str, message: str = "") -> Path | None:
    """The object of the document that a resource was compiled from; None for what only Tollhouse itself defines.

    `message` is Envoy's: where it quotes one of our JWT providers, that is the place.
    """
    collection = _COLLECTIONS.get(type_url)
    if type_url == resources.LISTENER:
        name = name.removesuffix(QUIC)
    if type_url in (resources.ROUTES, resources.SCOPED_ROUTES):
        name = listener_of(name)
    if collection is not None and "/" not in name:
        return (collection, name)
    if type_url == resources.EXTENSION:
        provider = _quoted_provider(message)
        return ("jwt_providers", provider) if provider else ("jwt_providers",)
    return None


def route_path(name: str) -> Path | None:
    """`orders/list` -> its place in the document. None for the routes that Tollhouse adds."""
    module, _, rest = name.partition("/")
    route = rest.removesuffix(PREFLIGHT)
    return None if not route or "/" in route or module == "tollhouse" else ("modules", module, "routes", route)


def _quoted_provider(message: str) -> str | None:
    _, found, rest = message.partition("Provider '")
    return rest.partition("'")[0] if found else None
