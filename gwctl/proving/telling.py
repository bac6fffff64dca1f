"""An Envoy that says in its answers what it did: which route it chose, why it refused, what the upstream saw."""

from typing import Final

from envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutation as Mutation
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.http.header_mutation.v3.header_mutation_pb2 import HeaderMutation, Mutations
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from google.protobuf.message import Message

from xds_server.compiler.wire import pack

TOLD: Final = {
    "x-seen-route": "%ROUTE_NAME%",
    "x-seen-details": "%RESPONSE_CODE_DETAILS%",
    "x-seen-path": "%REQ(:PATH)%",
    "x-seen-upstream": "%UPSTREAM_CLUSTER_RAW%",
}


def telling(message: Message) -> Message:
    """A listener with a first filter that writes what was seen into the answer; everything else as it is."""
    if isinstance(message, Listener):
        for chain in message.filter_chains:
            manager = HttpConnectionManager()
            manager.ParseFromString(chain.filters[0].typed_config.value)
            manager.http_filters.insert(0, teller())
            manager.ClearField("access_log")
            chain.filters[0].typed_config.CopyFrom(pack(manager))
    return message


def teller() -> HttpFilter:
    tell = HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
    mutations = [
        Mutation(append=HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=tell))
        for name, value in TOLD.items()
    ]
    config = HeaderMutation(mutations=Mutations(response_mutations=mutations))
    return HttpFilter(name="proving/teller", typed_config=pack(config))
