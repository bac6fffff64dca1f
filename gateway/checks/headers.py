"""Headers: which ones may be edited, which ones may carry identity, and CORS."""

from collections.abc import Iterator
from typing import Final

from gateway.checks.addresses import is_origin
from gateway.checks.scope import Scope
from gateway.model import ApiKeys, Cors, HeaderEdits, JwtProvider
from gateway.problems import Path, Problem
from gateway.resolve import NO_EDITS, header_names_of_identity

OF_THE_MESSAGE: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "keep-alive"}
)
"""They frame or route the message (RFC 9112, RFC 9113 8.2.2): Envoy owns them."""

OF_IDENTITY_FORBIDDEN: Final = OF_THE_MESSAGE | {"authorization", "cookie", "content-type", "accept", "origin", "date"}
_RESERVED_PREFIXES: Final = ("x-envoy-", "x-forwarded-", "x-tollhouse-", "grpc-", "sec-", "access-control-")
_ALSO_RESERVED: Final = frozenset({"x-request-id", "forwarded", "x-real-ip"})


def problems(scope: Scope) -> Iterator[Problem]:
    identity = frozenset(header_names_of_identity(scope.gateway))
    for path, level in scope.levels():
        if level.request_headers is not None:
            yield from _edits(level.request_headers, (*path, "request_headers"), identity)
        if level.response_headers is not None:
            yield from _edits(level.response_headers, (*path, "response_headers"), frozenset())
        if isinstance(level.cors, Cors):
            yield from _cors(level.cors, (*path, "cors"))
    for route in scope.routes:
        for index, backend in enumerate(route.route.backends or ()):
            place = (*route.path, "backends", index)
            yield from _edits(backend.request_headers or NO_EDITS, (*place, "request_headers"), identity)
            yield from _edits(backend.response_headers or NO_EDITS, (*place, "response_headers"), frozenset())
    if scope.gateway.floor.response_headers is not None:
        yield from _edits(scope.gateway.floor.response_headers, ("floor", "response_headers"), frozenset())
    yield from _identities(scope)


def _identities(scope: Scope) -> Iterator[Problem]:
    for name, provider in scope.gateway.jwt_providers.items():
        yield from _claims(provider, ("jwt_providers", name))
    for name, keys in scope.gateway.api_keys.items():
        yield from _keys(keys, ("api_keys", name))
    for name, basic in scope.gateway.basic_auth.items():
        if basic.forward_username is not None:
            yield from _identity_header(basic.forward_username, ("basic_auth", name, "forward_username"))
    for name, kind in scope.gateway.client_certificates.items():
        if kind.forward_client_id is not None:
            yield from _identity_header(kind.forward_client_id, ("client_certificates", name, "forward_client_id"))


def _edits(edits: HeaderEdits, path: Path, identity: frozenset[str]) -> Iterator[Problem]:
    names: list[tuple[str, Path]] = [(name, (*path, "set", name)) for name in edits.set]
    names += [(name, (*path, "add", name)) for name in edits.add]
    names += [(name, (*path, "remove", index)) for index, name in enumerate(edits.remove)]
    for name, place in names:
        if name in OF_THE_MESSAGE:
            yield Problem("GW321", place, f"the header '{name}' belongs to the message and may not be edited")
        elif name in identity:
            message = f"the header '{name}' tells upstreams who calls and may not be edited"
            yield Problem("GW324", place, message, "use another header")
    for index, name in enumerate(edits.remove):
        if name in edits.set or name in edits.add:
            yield Problem("GW323", (*path, "remove", index), f"the header '{name}' is both written and removed")


def _claims(provider: JwtProvider, path: Path) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for claim, header in provider.claims_to_headers.items():
        place = (*path, "claims_to_headers", claim)
        yield from _identity_header(header, place)
        before = first.setdefault(header, claim)
        if before != claim:
            yield Problem("GW314", place, f"the header '{header}' carries the claim '{before}' already")
    sources = {source.name for source in provider.from_.headers}
    for header in sorted(first.keys() & sources):
        yield Problem("GW314", (*path, "claims_to_headers"), f"the header '{header}' is where the token comes from")
    if not provider.from_.headers and not provider.from_.cookies:
        yield Problem("GW315", (*path, "from"), "there is nowhere to find a token", "name headers or cookies")


def _keys(keys: ApiKeys, path: Path) -> Iterator[Problem]:
    for index, header in enumerate(keys.from_.headers):
        if header in OF_THE_MESSAGE:
            yield Problem("GW322", (*path, "from", "headers", index), f"the header '{header}' cannot carry a key")
    for index, parameter in enumerate(keys.from_.query):
        message = f"a key in the query parameter '{parameter}' ends up in histories, referers and logs"
        yield Problem("GW319", (*path, "from", "query", index), message, "prefer a header", "warning")
    if keys.forward_client_id is None:
        return
    yield from _identity_header(keys.forward_client_id, (*path, "forward_client_id"))
    if keys.forward_client_id in keys.from_.headers:
        message = f"the header '{keys.forward_client_id}' is where the key comes from"
        yield Problem("GW314", (*path, "forward_client_id"), message, "use another header")


def _identity_header(header: str, path: Path) -> Iterator[Problem]:
    reserved = header in OF_IDENTITY_FORBIDDEN or header in _ALSO_RESERVED or header.startswith(_RESERVED_PREFIXES)
    if reserved:
        yield Problem(
            "GW322", path, f"the header '{header}' is reserved", "use a header of your own, such as x-user-id"
        )


def _cors(cors: Cors, path: Path) -> Iterator[Problem]:
    for index, origin in enumerate(cors.allow_origins):
        if not is_origin(origin):
            message = f"'{origin}' is not an origin"
            help_ = "write scheme and host in lower case: https://app.example.com or https://*.example.com"
            yield Problem("GW224", (*path, "allow_origins", index), message, help_)
        elif origin == "*" and cors.allow_credentials:
            message = "any site could call with a user's credentials: `*` and allow_credentials do not go together"
            yield Problem("GW331", (*path, "allow_origins", index), message, "name the origins")
