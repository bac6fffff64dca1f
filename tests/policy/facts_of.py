"""Gateways and requests for the tests of the decision services."""

from collections.abc import Mapping
from typing import Any

from envoy.service.auth.v3 import external_auth_pb2
from envoy.service.ratelimit.v3 import rls_pb2

from gateway.model import Gateway, decode
from policy.view import PolicyView

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "listeners": {"http": {"port": 80}},
    "upstreams": {"up": {"type": "static", "endpoints": [{"address": "127.0.0.1", "port": 9}]}},
    "jwt_providers": {
        "acme": {
            "issuer": "https://id.example.com/",
            "audiences": ["api"],
            "jwks": {"hs256": {"secret": "acme"}},
            "tier_claim": "plan",
        }
    },
    "api_keys": {
        "partner": {"from": {"headers": ["x-api-key"]}, "forward_client_id": "x-client-id"},
        "legacy": {"from": {"headers": ["x-key", "x-old-key"]}, "strip": False},
    },
    "tiers": {
        "free": {"rate_limits": [{"limit": "3/hour"}, {"limit": "100/day"}]},
        "gold": {"rate_limits": [{"limit": "50/minute", "name": "gold-minute"}]},
        "staff": {"unlimited": True},
    },
    "modules": {
        "orders": {
            "tier": "free",
            "listener": "http",
            "authentication": {"any_of": ["acme", "partner", "legacy"]},
            "routes": {
                "list": {"match": {"path": {"exact": "/orders"}}, "backends": [{"upstream": "up"}]},
                "create": {
                    "match": {"path": {"exact": "/orders/new"}},
                    "backends": [{"upstream": "up"}],
                    "rate_limits": [
                        {"name": "burst", "limit": "2/minute", "per": ["client", "claim:org"], "cost": 2},
                        {"name": "watch", "limit": "1/hour", "per": "ip", "shadow": True},
                    ],
                },
            },
        },
        "status": {
            "tier": "free",
            "listener": "http",
            "authentication": "none",
            "routes": {
                "ping": {
                    "match": {"path": {"exact": "/ping"}},
                    "backends": [{"upstream": "up"}],
                    "rate_limits": [{"limit": "1000/second", "per": "route"}],
                }
            },
        },
    },
}


def gateway(**changes: Any) -> Gateway:
    return decode(DOCUMENT | changes)


def view(**changes: Any) -> PolicyView:
    return PolicyView.of(gateway(**changes), revision=1)


ROUTE = {"route": "orders/list", "jwt": "acme", "api_keys": "partner,legacy"}


def check_request(
    headers: Mapping[str, str] | None = None,
    *,
    settings: Mapping[str, str] = ROUTE,
    claims: Mapping[str, Any] | None = None,
    provider: str = "acme",
    raw: list[tuple[str, bytes]] | None = None,
) -> external_auth_pb2.CheckRequest:
    request = external_auth_pb2.CheckRequest()
    attributes = request.attributes
    attributes.context_extensions.update(settings)
    attributes.request.http.headers.update(headers or {})
    for key, value in raw or ():
        attributes.request.http.header_map.headers.add(key=key, raw_value=value)
    if claims is not None:
        metadata = attributes.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"]
        metadata.update({provider: claims})
    return request


def limit_request(
    *descriptors: Mapping[str, str], domain: str = "tollhouse", hits: int = 0
) -> rls_pb2.RateLimitRequest:
    request = rls_pb2.RateLimitRequest(domain=domain, hits_addend=hits)
    for descriptor in descriptors:
        added = request.descriptors.add()
        for key, value in descriptor.items():
            added.entries.add(key=key, value=value)
    return request
