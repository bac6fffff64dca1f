"""What a CheckRequest says, without its protobuf: only what decisions are made from.

Everything read here was put there by Envoy: the route's own settings (`context_extensions`), the payloads of tokens
whose signatures it verified, the certificate that it verified, the caller's address, and the places that may carry a
key or a password. Of the path only the query is looked at, and of that only the parameters that carry keys.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

from envoy.service.auth.v3 import attribute_context_pb2, external_auth_pb2
from google.protobuf import struct_pb2

from gateway.claims import claim_path
from policy.view import BasicSource, CertificateSource, KeySource, PolicyView, Provider

Http = attribute_context_pb2.AttributeContext.HttpRequest
T = TypeVar("T", Provider, KeySource, BasicSource, CertificateSource)
JWT_NAMESPACE: Final = "envoy.filters.http.jwt_authn"


@dataclass(frozen=True, slots=True)
class Token:
    """A verified token: its subject and the two claims that its provider is configured to have, as they are."""

    provider: str
    subject: Any
    tier: Any
    scopes: Any


@dataclass(frozen=True, slots=True)
class Facts:
    """What the route accepts, as far as this view knows it (`unknown`: not all of it), and what the request holds.

    `route` is "" for a request that our compiler did not configure. `providers`: names. `all_of`: the names that must
    all hold. `optional`: nobody in particular may come too. `tokens`: verified, one a provider at most. `keys`: every
    value of every place for keys. `cookies`: the pairs of the Cookie header. `authorization`: its values, where a
    password is accepted. `certificate`: percent-encoded PEM. `address`: the caller's.
    """

    route: str
    providers: tuple[str, ...]
    unknown: bool
    key_sources: tuple[KeySource, ...]
    basic_sources: tuple[BasicSource, ...]
    certificate_sources: tuple[CertificateSource, ...]
    all_of: tuple[str, ...]
    optional: bool
    address: str
    tokens: tuple[Token, ...]
    keys: tuple[tuple[KeySource, str], ...] = field(repr=False)
    cookies: tuple[tuple[str, str], ...] = field(repr=False)
    authorization: tuple[str, ...] = field(repr=False)
    certificate: str = field(repr=False)

    @property
    def accepts_jwt(self) -> bool:
        return bool(self.providers)

    @property
    def accepts_keys(self) -> bool:
        return bool(self.key_sources)

    @property
    def accepts_anything(self) -> bool:
        return bool(self.providers or self.key_sources or self.basic_sources or self.certificate_sources)

    def ways(self) -> Iterator["Facts"]:
        """The same request for each name of `all_of` alone."""
        for name in self.all_of:
            yield replace(
                self,
                all_of=(),
                providers=tuple(p for p in self.providers if p == name),
                tokens=tuple(token for token in self.tokens if token.provider == name),
                key_sources=tuple(source for source in self.key_sources if source.name == name),
                keys=tuple((source, key) for source, key in self.keys if source.name == name),
                basic_sources=tuple(source for source in self.basic_sources if source.name == name),
                certificate_sources=tuple(source for source in self.certificate_sources if source.name == name),
            )


def facts(request: external_auth_pb2.CheckRequest, view: PolicyView, address: str = "") -> Facts:
    """`address`: the caller's as Envoy knows it; the request itself has that of the connection, a proxy's perhaps."""
    attributes = request.attributes
    settings, http = attributes.context_extensions, attributes.request.http
    jwt, sources = (
        _known(settings.get("jwt", ""), view.providers),
        _known(settings.get("api_keys", ""), view.key_sources),
    )
    basic = _known(settings.get("basic", ""), view.basic_sources)
    certificates = _known(settings.get("certificates", ""), view.certificate_sources)
    accepted = (jwt, sources, basic, certificates)
    names = {one.name for group in accepted for one in group.found}
    all_of = _names(settings.get("all_of", ""))
    cookies = _cookies(http) if any(source.cookies for source in sources.found) else ()
    return Facts(
        route=settings.get("route", ""),
        providers=tuple(provider.name for provider in jwt.found),
        unknown=any(group.unknown for group in accepted) or not names.issuperset(all_of),
        key_sources=sources.found,
        basic_sources=basic.found,
        certificate_sources=certificates.found,
        all_of=all_of,
        optional=settings.get("optional", "") == "true",
        address=address or attributes.source.address.socket_address.address,
        tokens=tuple(_tokens(attributes.metadata_context.filter_metadata, jwt.found)),
        keys=tuple((source, value) for source in sources.found for value in _keys(http, cookies, source)),
        cookies=cookies,
        authorization=tuple(_header(http, "authorization")) if basic.found else (),
        certificate=attributes.source.certificate if certificates.found else "",
    )


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """The objects that a setting names and the view has; `unknown`: whether it names others."""

    found: tuple[T, ...]
    unknown: bool


NOTHING: Final[Known[Any]] = Known((), False)


def _known(names: str, defined: Mapping[str, T]) -> Known[T]:
    if not names:
        return NOTHING
    wanted = _names(names)
    return Known(tuple(defined[name] for name in wanted if name in defined), any(n not in defined for n in wanted))


@lru_cache(maxsize=4096)  # they are the routes', and the same for each of their requests
def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


def _tokens(metadata: Mapping[str, struct_pb2.Struct], providers: Iterable[Provider]) -> Iterator[Token]:
    if JWT_NAMESPACE not in metadata:  # a look-up of a protobuf map would add the entry
        return
    payloads = metadata[JWT_NAMESPACE].fields
    for provider in providers:
        if provider.name in payloads and payloads[provider.name].HasField("struct_value"):
            claims = payloads[provider.name].struct_value.fields
            tier = _value(claims, provider.tier_claim) if provider.tier_claim else None
            yield Token(provider.name, _value(claims, "sub"), tier, _value(claims, provider.scope_claim))


def claim(request: external_auth_pb2.CheckRequest, provider: str, path: tuple[str, ...]) -> Any:
    """What a provider's verified token says there; None if it says nothing, or none came."""
    metadata = request.attributes.metadata_context.filter_metadata
    if JWT_NAMESPACE not in metadata:
        return None
    payloads = metadata[JWT_NAMESPACE].fields
    return _at(payloads[provider].struct_value.fields, path) if provider in payloads else None


def _value(claims: Mapping[str, struct_pb2.Value], name: str) -> Any:
    return _at(claims, claim_path(name))


def _at(claims: Mapping[str, struct_pb2.Value], path: tuple[str, ...]) -> Any:
    """A claim as a Python value; a structure as None, since nothing here is one."""
    *outer, last = path
    for key in outer:
        if key not in claims:
            return None
        claims = claims[key].struct_value.fields  # empty unless it is a structure
    return _plain(claims[last]) if last in claims else None


def _plain(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    return None if kind in (None, "null_value", "struct_value") else getattr(value, kind)


def _keys(http: Http, cookies: Iterable[tuple[str, str]], source: KeySource) -> Iterator[str]:
    yield from _header(http, *source.headers)
    yield from (value for name, value in cookies if name in source.cookies)
    if source.query:
        pairs = (pair.partition("=") for pair in http.path.partition("?")[2].split("&"))
        yield from (value for name, _, value in pairs if name in source.query)


def _header(http: Http, *names: str) -> Iterator[str]:
    """Both places where Envoy may put headers: joined in `headers`, or each on its own in `header_map`."""
    joined = http.headers
    yield from (joined[name] for name in names if name in joined)
    for header in http.header_map.headers:
        if header.key.lower() in names:
            yield header.value or header.raw_value.decode("ascii", errors="replace")


def _cookies(http: Http) -> tuple[tuple[str, str], ...]:
    """RFC 6265, 4.2.1: pairs between `;`."""
    pairs = (pair.strip().partition("=") for header in _header(http, "cookie") for pair in header.split(";"))
    return tuple((name.strip(), value.strip()) for name, _, value in pairs if name.strip())
