"""What a login needs beside its filter: a way to the issuer's token endpoint, and two secrets over SDS.

The key that signs and encrypts a session's cookies is derived from the client secret, so every Envoy behind every
replica of the control plane has the same, and a new client secret ends all sessions.
"""

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import GenericSecret
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret as EnvoySecret

from gateway.model import DnsUpstream, Endpoint, Oidc, StaticUpstream, Upstream, UpstreamTls
from xds_server.compiler import clusters, names, unsafe_upstreams
from xds_server.compiler.context import Context
from xds_server.compiler.endpoints import is_address
from xds_server.compiler.errors import CompileError
from xds_server.compiler.settings import HmacKey

LABEL: Final = b"tollhouse oidc session "


def messages(context: Context, name: str) -> Iterator[EnvoySecret | Cluster | ClusterLoadAssignment]:
    """The cluster of a login's token endpoint and its secrets. Raises CompileError."""
    spec = context.gateway.oidc[name]
    if spec.jwt_provider not in context.gateway.jwt_providers:
        raise CompileError(f"there is no JWT provider {spec.jwt_provider!r}", "jwt_provider")
    secret = client_secret(context, spec)
    key = hmac.digest(secret, LABEL + name.encode(), hashlib.sha256)
    yield generic(names.client_secret(name), secret)
    yield generic(names.session_key(name), key.hex().encode())
    yield from token_cluster(context, name, spec)


def client_secret(context: Context, spec: Oidc) -> bytes:
    """Files end with a line break that is no part of the secret."""
    name = spec.client_secret.secret
    found = context.secrets.get(name)
    value = found.value.strip() if isinstance(found, HmacKey) else b""
    if not value:
        raise CompileError(f"the secret store has no client secret {name!r}", "client_secret", "secret", code="GW602")
    return value


def generic(name: str, value: bytes) -> EnvoySecret:
    return EnvoySecret(name=name, generic_secret=GenericSecret(secret=DataSource(inline_bytes=value)))


def token_cluster(context: Context, name: str, spec: Oidc) -> Iterator[Cluster | ClusterLoadAssignment]:
    """Compiled and refused as an upstream of the document would be."""
    cluster = names.token_endpoint(name)
    gateway = context.gateway.model_copy(update={"upstreams": {cluster: token_upstream(spec)}})
    alone = replace(context, gateway=gateway)
    try:
        unsafe_upstreams.refuse(alone, cluster)
        yield from clusters.upstream(alone, cluster)
    except CompileError as error:
        raise CompileError(error.message, "token_endpoint", code=error.code) from None


def token_upstream(spec: Oidc) -> Upstream:
    host, port, encrypted = spec.token_address
    tls = UpstreamTls(sni=host, ca="system") if encrypted else None
    if is_address(host):
        return StaticUpstream(type="static", endpoints=(Endpoint(address=host, port=port),), tls=tls)
    return DnsUpstream(type="dns", host=host, port=port, tls=tls)
