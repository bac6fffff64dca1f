"""Header mutation: the headers that tell upstreams who calls are taken off what clients send.

The filter in the chain is empty; the names come with the route table, so that a new provider changes no listener.
"""

from typing import Final

from envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutation as Mutation
from envoy.extensions.filters.http.header_mutation.v3.header_mutation_pb2 import (
    HeaderMutation,
    HeaderMutationPerRoute,
    Mutations,
)
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from google.protobuf.any_pb2 import Any

from gateway.model import Listener
from gateway.resolve import header_names_of_identity
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, http_filter
from xds_server.compiler.wire import pack

NAME: Final = "tollhouse/identity_headers"


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    return http_filter(NAME, HeaderMutation())


def on_table(context: Context) -> Any | None:
    names = header_names_of_identity(context.gateway)
    removals = [Mutation(remove=name) for name in names]
    return pack(HeaderMutationPerRoute(mutations=Mutations(request_mutations=removals))) if names else None


STAGE: Final = Stage(NAME, "nothing may trust an identity header that a client wrote", configure, on_table=on_table)
