"""What a CheckRequest says, without its protobuf: only what decisions are made from.

Everything read here was put there by Envoy: the route's own settings (`context_extensions`), the payloads of tokens
whose signatures it verified, and the values of the headers that may carry an API key. Path, host and method are not
looked at.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from envoy.service.auth.v3 import attribute_context_pb2, external_auth_pb2
from google.protobuf import struct_pb2

from gateway.claims import claim_path
from policy.view import KeySource, PolicyView, Provider

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
    """`providers` and `key_sources`: those that the route accepts and this view knows; `unknown`: whether it knows all.

    `route` is "" for a request that our compiler did not configure. `keys`: every value of every key header.
    """

    route: str
    accepts_jwt: bool
    accepts_keys: bool
    unknown: bool
    key_sources: tuple[KeySource, ...]
    token: Token | None
    keys: tuple[tuple[KeySource, str], ...] = field(repr=False)


def facts(request: external_auth_pb2.CheckRequest, view: PolicyView) -> Facts:
    attributes = request.attributes
    settings = attributes.context_extensions
    jwt, api_keys = _names(settings.get("jwt", "")), _names(settings.get("api_keys", ""))
    sources = tuple(view.key_sources[name] for name in api_keys if name in view.key_sources)
    providers = tuple(view.providers[name] for name in jwt if name in view.providers)
    return Facts(
        route=settings.get("route", ""),
        accepts_jwt=bool(jwt),
        accepts_keys=bool(api_keys),
        unknown=len(sources) + len(providers) < len(jwt) + len(api_keys),
        key_sources=sources,
        token=_token(attributes.metadata_context.filter_metadata, providers),
        keys=tuple((source, value) for source in sources for value in _values(attributes.request.http, source)),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


def _token(metadata: Mapping[str, struct_pb2.Struct], providers: Iterable[Provider]) -> Token | None:
    if JWT_NAMESPACE not in metadata:  # a look-up of a protobuf map would add the entry
        return None
    payloads = metadata[JWT_NAMESPACE].fields
    for provider in providers:
        if provider.name in payloads and payloads[provider.name].HasField("struct_value"):
            claims = payloads[provider.name].struct_value.fields
            tier = _value(claims, provider.tier_claim) if provider.tier_claim else None
            return Token(provider.name, _value(claims, "sub"), tier, _value(claims, provider.scope_claim))
    return None


def _value(claims: Mapping[str, struct_pb2.Value], name: str) -> Any:
    """A claim as a Python value; a structure as None, since nothing here is one."""
    *outer, last = claim_path(name)
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


def _values(http: attribute_context_pb2.AttributeContext.HttpRequest, source: KeySource) -> Iterable[str]:
    """Both places where Envoy may put headers: joined in `headers`, or each on its own in `header_map`."""
    joined = http.headers
    yield from (joined[name] for name in source.headers if name in joined)
    for header in http.header_map.headers:
        if header.key.lower() in source.headers:
            yield header.value or header.raw_value.decode("ascii", errors="replace")
