"""What each field means, in a line: for editors and `gwctl docs`.

The first that says something of a field is taken: `Field(description=…)`, the model's docstring (`` `name`: text``),
the table below, the docstring of what the field holds.
"""

import re
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel

MEANINGS: Final = {
    "Gateway.version": "The language's version: 1.",
    "Gateway.owner": "Whose objects these are: `gwctl apply` changes and prunes only what its owner wrote.",
    "Gateway.labels": "Words for people and programs, put on every object of the file.",
    "Gateway.listeners": "Where requests come in: a port and how it is spoken to.",
    "Gateway.upstreams": "Where requests go: services and their endpoints.",
    "Gateway.jwt_providers": "Issuers of JSON Web Tokens that callers may present.",
    "Gateway.api_keys": "Ways to present an API key.",
    "Gateway.tiers": "Kinds of callers, lowest first, with the limits of each.",
    "Gateway.rate_limit_defaults": "What holds for all rate limits.",
    "Gateway.rate_limit_domains": "Limits for Envoys that this gateway does not configure.",
    "Gateway.defaults": "Policies of every route that does not say otherwise.",
    "Gateway.modules": "Routes that ship together, with who may call them.",
    "Gateway.envoy": "Raw Envoy settings of the whole node, for what the language has no words for.",
    "HeaderSource.name": "The header that carries the token.",
    "HeaderSource.prefix": "What stands before the token in the header, and is cut off.",
    "JwtFrom.headers": "Headers that may carry the token.",
    "JwtFrom.cookies": "Cookies that may carry the token.",
    "SecretRef.secret": "The secret's name in the control plane's secret store.",
    "JwtProvider.issuer": "The claim `iss` that tokens must have.",
    "JwtProvider.audiences": "The claim `aud` must hold one of these.",
    "JwtProvider.from": "Where the token is in a request; by default in `Authorization: Bearer`.",
    "JwtProvider.clock_skew": "How far the issuer's clock may be off.",
    "JwtProvider.max_lifetime": "Tokens that are valid for longer are refused.",
    "JwtProvider.claims_to_headers": "Claims that upstreams get, each in the header named here.",
    "JwtProvider.tier_claim": "The claim that names the caller's tier.",
    "JwtProvider.scope_claim": "The claim that holds the caller's scopes.",
    "KeyFrom.headers": "Headers that may carry the key.",
    "ApiKeys.from": "Where the key is in a request.",
    "ApiKeys.forward_client_id": "The header in which upstreams get the client's id.",
    "ApiKeys.strip": "Whether the key is taken out of the request before it goes upstream.",
    "RateLimit.limit": "How many requests in how much time: `60/minute`.",
    "RateLimit.per": "What is counted by: `client`, `ip`, `route`, `claim:NAME`, or several together.",
    "RateLimit.name": "A name for statistics and reports.",
    "RateLimit.cost": "How much one request counts.",
    "Tier.rate_limits": "The limits of everybody in the tier.",
    "Tier.unlimited": "No limits at all.",
    "RateLimitDefaults.headers": "Which headers tell callers how much is left.",
    "Listener.port": "The TCP port.",
    "Listener.address": "The IP address to listen on; by default what the control plane was told (loopback).",
    "Listener.protocol": "HTTP, or HTTPS with `tls`.",
    "Listener.http2": "Whether callers may speak HTTP/2.",
    "Listener.tls": "Certificates, and how TLS is spoken.",
    "Listener.trusted_hops": "How many proxies in front append to X-Forwarded-For and may be believed.",
    "Listener.strict_paths": "Refuse paths that servers understand differently: `//`, `..`, encoded slashes.",
    "Listener.access_log": "What is logged of requests; `none` for nothing.",
    "ListenerRedirect.scheme": "The scheme of the address that callers are sent to.",
    "ListenerRedirect.port": "Its port, if it is not the scheme's own.",
    "ListenerRedirect.status": "The status of the answer.",
    "AccessLog.format": "How a request is written.",
    "ListenerCertificate.hosts": "The names for which this certificate is shown; by default those in it.",
    "ListenerTls.min_version": "The oldest TLS version that is accepted.",
    "ListenerTls.certificates": "The certificates, chosen by the name that the caller asks for (SNI).",
    "AnyOf.any_of": "Providers and key sources: one of them must know the caller.",
    "ClaimMatch.exact": "The claim has this value.",
    "ClaimMatch.in": "The claim has one of these values.",
    "AuthorizationRule.name": "A name for statistics and for who asks why a request was denied.",
    "AuthorizationRule.action": "What happens to a request that matches.",
    "AuthorizationRule.scopes": "Scopes that the caller must have, all of them.",
    "AuthorizationRule.claims": "Claims that the caller's token must have, all of them.",
    "AuthorizationRule.tiers": "Tiers, one of which the caller is in.",
    "AuthorizationRule.methods": "HTTP methods, one of which the request has.",
    "AuthorizationRule.cidrs": "Networks, one of which the caller's address is in.",
    "Authorization.default_action": "What happens to a request that no rule matches.",
    "Authorization.rules": "The rules, in order.",
    "Cache.ttl": "How long an answer is kept at most.",
    "Cache.max_size": "Longer answers are not kept.",
    "Cache.vary_by": "What answers differ by, besides host, path, query and what their Vary names.",
    "CacheVary.headers": "Headers of the request: each of their values has answers of its own.",
    "Timeouts.request": "For the whole request; past it the caller gets 504.",
    "Timeouts.idle": "Without a byte in either direction.",
    "Backoff.base": "The first wait before another try; it doubles each time.",
    "Backoff.max": "The longest wait.",
    "Retry.attempts": "How often a request is tried again.",
    "Retry.codes": "Statuses of the upstream after which it is.",
    "Retry.conditions": "Failures after which it is.",
    "Retry.backoff": "How long to wait before each try.",
    "Retry.per_try_timeout": "How long one try may take.",
    "Cors.allow_origins": "Origins whose pages may call: exact, or `https://*.example.com`.",
    "Cors.allow_methods": "Methods that they may use.",
    "Cors.allow_headers": "Headers that they may send.",
    "Cors.expose_headers": "Headers of the answer that they may read.",
    "Cors.max_age": "How long browsers may remember a preflight's answer.",
    "Cors.allow_credentials": "Whether they may send cookies and credentials.",
    "HeaderEdits.set": "Headers that get this value, whatever they had.",
    "HeaderEdits.add": "Headers that get this value beside what they had.",
    "HeaderEdits.remove": "Headers that are taken out.",
    "Policies.timeouts": "How long things may take.",
    "Policies.retry": "When a request is tried again; `none` for never.",
    "Policies.cors": "Which pages of other origins may call; `none` for no CORS.",
    "Policies.request_headers": "Changes to the headers of requests on their way upstream.",
    "Policies.response_headers": "Changes to the headers of answers.",
    "PathMatch.exact": "The path is this, byte for byte.",
    "PathMatch.prefix": "The path is this, or goes on below it: whole segments.",
    "PathMatch.template": "`{id}` stands for one segment, `{rest=**}` for all that is left.",
    "PathMatch.regex": "The whole path matches (RE2).",
    "ValueMatch.exact": "The value is this.",
    "ValueMatch.prefix": "The value begins with this.",
    "ValueMatch.suffix": "The value ends with this.",
    "ValueMatch.contains": "The value contains this.",
    "ValueMatch.regex": "The whole value matches (RE2).",
    "ValueMatch.present": "Whether there is a value at all.",
    "Match.path": "The path, without the query.",
    "Match.methods": "HTTP methods, one of which the request has; by default any.",
    "Match.headers": "Headers that must match, all of them.",
    "Match.query": "Query parameters that must match, all of them.",
    "Backend.upstream": "The upstream's name.",
    "Backend.weight": "Its share of the requests, against the other backends' weights.",
    "Respond.status": "The status of the answer.",
    "Respond.body": "Its body.",
    "Redirect.scheme": "The scheme of the address that callers are sent to.",
    "Redirect.host": "Its host.",
    "Redirect.port": "Its port.",
    "Redirect.path": "Its whole path.",
    "Redirect.path_prefix": "What the matched prefix is replaced with.",
    "Redirect.status": "The status of the answer.",
    "Route.match": "Which requests the route is for.",
    "Route.backends": "The upstreams that requests go to, by weight.",
    "Route.respond": "The gateway answers by itself.",
    "Route.redirect": "Callers are sent elsewhere.",
    "Route.description": "For people.",
    "Route.priority": "Routes of higher priority are tried first; by default the more specific ones are.",
    "Route.authentication": "Who may call: `none` for everybody, or ways to show who is calling.",
    "Route.authorization": "Which of the known callers may.",
    "Route.rate_limits": "Limits of this route, beside the module's and the tier's.",
    "Module.tier": "The least tier that may call.",
    "Module.listener": "The listener that the module's routes are on.",
    "Module.hosts": "The hosts that they answer for.",
    "Module.path_prefix": "A fence: every path of the module must begin with it.",
    "Module.description": "For people.",
    "Module.authentication": "Who may call: `none` for everybody, or ways to show who is calling.",
    "Module.authorization": "Which of the known callers may.",
    "Module.rate_limits": "Limits of every route of the module, beside the tier's.",
    "Module.routes": "The routes.",
    "Endpoint.address": "An IP address.",
    "Endpoint.port": "A port.",
    "Endpoint.weight": "Its share of the requests, against the other endpoints' weights.",
    "Endpoint.zone": "Where it is.",
    "HttpCheck.path": "What is asked for.",
    "HttpCheck.host": "The Host header; by default the upstream's name.",
    "HttpCheck.expected_statuses": "Statuses, and ranges of them, that mean healthy.",
    "HealthCheck.http": "Asks over HTTP.",
    "HealthCheck.interval": "How often.",
    "HealthCheck.timeout": "How long an answer may take.",
    "HealthCheck.healthy_threshold": "After so many good answers an endpoint is healthy.",
    "HealthCheck.unhealthy_threshold": "After so many bad ones it is not.",
    "CircuitBreaker.max_connections": "Connections to the upstream at once, for each Envoy.",
    "CircuitBreaker.max_pending_requests": "Requests that wait for a connection.",
    "CircuitBreaker.max_requests": "Requests at once.",
    "CircuitBreaker.max_retries": "Retries at once.",
    "OutlierDetection.consecutive_5xx": "After so many answers of 500 and above an endpoint is ejected.",
    "OutlierDetection.interval": "How often endpoints are looked at.",
    "OutlierDetection.base_ejection_time": "How long the first time; longer each time after that.",
    "OutlierDetection.max_ejection_percent": "How many of the endpoints may be ejected at once.",
    "LoadBalancing.policy": "How an endpoint is chosen.",
    "UpstreamTls.sni": "The server's name, which its certificate must have.",
    "UpstreamTls.alpn": "Protocols to offer.",
    "UpstreamBase.protocol": "How the upstream is spoken to.",
    "UpstreamBase.connect_timeout": "How long a connection may take.",
    "UpstreamBase.tls": "Speak TLS, and verify the server's certificate.",
    "UpstreamBase.load_balancing": "How endpoints are chosen.",
    "UpstreamBase.health_check": "Asking the endpoints how they are.",
    "UpstreamBase.circuit_breaker": "How much may be under way at once.",
    "UpstreamBase.outlier_detection": "Ejecting endpoints that fail; `none` for never.",
    "StaticUpstream.type": "Endpoints with addresses of their own.",
    "StaticUpstream.endpoints": "The endpoints.",
    "DnsUpstream.type": "Endpoints found by name.",
    "DnsUpstream.host": "The name.",
    "DnsUpstream.port": "The port of every address found.",
    "DnsUpstream.dns": "How the name is looked up.",
    "Dns.refresh": "How often.",
    "Dns.family": "IPv4 or IPv6.",
    "Policies.grpc_web": "Whether browsers may call gRPC upstreams by gRPC-Web.",
    "FaultDelay.fixed_delay": "How long a request is held.",
    "FaultDelay.percentage": "The share of the requests that are.",
    "FloorTimeouts.request": "The longest that a route may give a request.",
    "FloorTls.min_version": "The oldest TLS version that a listener may accept.",
    "Listener.http3": "Whether callers may speak HTTP/3, over UDP on the same port.",
    "Listener.escaped_slashes": "What becomes of a request whose path has an escaped slash (`%2F`).",
    "Listener.nodes": "Which nodes have this listener, with all that it needs; without it every node has.",
    "Listener.route_table": "How Envoy finds a route: by a tree, or one after the other.",
    "Listener.route_scopes": "What routes are sent and looked up by: one table, or one for each host or first segment.",
    "Retry.per_try_idle_timeout": "How long one try may be without a byte.",
    "Retry.avoid_previous_hosts": "Whether another try goes to another endpoint.",
    "Rollout.on_halt": "What happens when a rollout is halted.",
    "Timeouts.stream": "For a whole request and its answer, however long bytes keep coming.",
}

_MENTIONED: Final = r"(?:^|[\s(])`{name}`: (.+?)(?=(?:[.;]\s+`[a-z_0-9]+`:)|\n\n|\Z)"


def meaning(model: type[BaseModel], name: str) -> str:
    """What the field of that model means; at worst what the model itself is for. Never empty for a documented model."""
    field = model.model_fields[name]
    written = field.alias or name
    said = field.description or next(_said_by_classes(model, written), "")
    if not said:
        said = next((_first(one.__doc__) for one in _held(field.annotation) if one.__doc__), "")
    return said or _first(model.__doc__)


def _said_by_classes(model: type[BaseModel], name: str) -> Iterator[str]:
    for one in model.__mro__:
        if not issubclass(one, BaseModel) or one is BaseModel:
            continue
        table = MEANINGS.get(f"{one.__name__}.{name}")
        if table:
            yield table
        found = re.search(_MENTIONED.replace("{name}", re.escape(name)), one.__doc__ or "", re.DOTALL)
        if found:
            text = re.sub(r"\s+", " ", found[1]).rstrip(" .")
            yield text[:1].upper() + text[1:] + "."


def _first(text: str | None) -> str:
    """The first paragraph of a docstring."""
    return re.sub(r"\s+", " ", (text or "").strip().split("\n\n")[0])


def _held(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field may hold, through lists, mappings and alternatives."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union, UnionType, tuple, dict):
        for one in get_args(annotation):
            yield from _held(one)
