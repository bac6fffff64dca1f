"""Header mutation: what a listener tells every caller about its own transport, errors of Envoy's own included.

As a filter, and the first one: it then sees the answers of all the others, which a route's headers do not cover.
"""

from collections.abc import Iterator
from typing import Final

from envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutation as Mutation
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.extensions.filters.http.header_mutation.v3.header_mutation_pb2 import HeaderMutation, Mutations
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter

from gateway.model import Hsts, Listener
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, http_filter

NAME: Final = "tollhouse/transport_headers"
ALTERNATIVE_SECONDS: Final = 86_400


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    mutations = [overwriting(name, value) for name, value in headers(context, listener)]
    return http_filter(NAME, HeaderMutation(mutations=Mutations(response_mutations=mutations))) if mutations else None


def headers(context: Context, listener: Listener) -> Iterator[tuple[str, str]]:
    """Only where TLS ends: a browser must ignore both on a connection in the clear (RFC 6797 7.2)."""
    if listener.protocol != "HTTPS":
        return
    if listener.hsts is not None:
        yield "strict-transport-security", hsts(listener.hsts)
    if listener.http3:
        yield "alt-svc", f'h3=":{port(context, listener)}"; ma={ALTERNATIVE_SECONDS}'


def port(context: Context, listener: Listener) -> int:
    """The UDP port is the TCP port, wherever the node's settings put that."""
    ports = (context.settings.port_of(name, one) for name, one in context.gateway.listeners.items() if one is listener)
    return next(ports, listener.port)


def hsts(spec: Hsts) -> str:
    parts = [f"max-age={spec.max_age // 1000}"]
    if spec.include_subdomains:
        parts.append("includeSubDomains")
    if spec.preload:
        parts.append("preload")
    return "; ".join(parts)


def overwriting(name: str, value: str) -> Mutation:
    action = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    return Mutation(append=HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=action))


STAGE: Final = Stage(NAME, "it tells callers of all answers, so it must be the last to see one", configure)
