"""Client status (CSDS): what each connected node is to have, whether it has it, and what it refused.

Source: `envoy.service.status.v3`. It says of each type that a node subscribes to what the board says, resource by
resource; what a refusal was about is told at every resource of the refused response, as nobody knows more.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import grpc
from envoy.admin.v3.config_dump_shared_pb2 import UpdateFailureState
from envoy.service.status.v3.csds_pb2 import (
    ERROR,
    NOT_SENT,
    STALE,
    SYNCED,
    ClientConfig,
    ClientStatusRequest,
    ClientStatusResponse,
)
from envoy.type.matcher.v3.node_pb2 import NodeMatcher

from xds_server.ads.board import NodeRow, TypeRow
from xds_server.ads.groups import view_of
from xds_server.ads.hub import Hub
from xds_server.ads.identity import Peer, caller
from xds_server.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    RUNTIME,
    SCOPED_ROUTES,
    VIRTUAL_HOST,
    Resource,
    Snapshot,
)

SERVICE: Final = "envoy.service.status.v3.ClientStatusDiscoveryService"
PATHS: Final = tuple(f"/{SERVICE}/{method}" for method in ("StreamClientStatus", "FetchClientStatus"))

SHOWN: Final = frozenset({CLUSTER, ENDPOINTS, LISTENER, ROUTES, RUNTIME, SCOPED_ROUTES, VIRTUAL_HOST})
"""Types whose contents are shown. Secrets never are, nor extensions, which hold the keys of callers' tokens."""


FITS: Final[Mapping[str, Callable[[str, str], bool]]] = MappingProxyType(
    {"exact": str.__eq__, "prefix": str.startswith, "suffix": str.endswith, "contains": str.__contains__}
)
"""The ways to match a node's id that are carried out: (value, wanted)."""


class Unsupported(ValueError):  # noqa: N818 - an outcome
    """A way to choose nodes that is not carried out: leaving it out would show too many."""


def handler(hub: Hub) -> Any:
    """Both methods. The gate has let nodes and operators through; a node sees nothing but itself."""

    async def fetch(request: ClientStatusRequest, context: Any) -> ClientStatusResponse:
        peer = caller()
        if not peer.operator and (refusal := peer.refuse(request.node.id)) is not None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, refusal.message)
        try:
            return status(hub, request, peer)
        except Unsupported as error:
            return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))  # type: ignore[no-any-return]

    async def stream(requests: AsyncIterator[ClientStatusRequest], context: Any) -> None:
        async for request in requests:
            await context.write(await fetch(request, context))

    coding = {
        "request_deserializer": ClientStatusRequest.FromString,
        "response_serializer": ClientStatusResponse.SerializeToString,
    }
    methods = {
        "StreamClientStatus": grpc.stream_stream_rpc_method_handler(stream, **coding),
        "FetchClientStatus": grpc.unary_unary_rpc_method_handler(fetch, **coding),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def status(hub: Hub, request: ClientStatusRequest, peer: Peer) -> ClientStatusResponse:
    """Of the connected nodes that the request means and the client may read about. Raises Unsupported."""
    rows = [row for row in hub.board.rows if row.connected and peer.may_read(row.id) and _meant(request, row.id)]
    contents = not request.exclude_resource_contents
    return ClientStatusResponse(config=[_client(row, hub.snapshot, contents) for row in rows])


def _meant(request: ClientStatusRequest, node: str) -> bool:
    return not request.node_matchers or any(_fits(matcher, node) for matcher in request.node_matchers)


def _fits(matcher: NodeMatcher, node: str) -> bool:
    word = matcher.node_id.WhichOneof("match_pattern")
    if matcher.node_metadatas or word not in FITS:
        raise Unsupported("nodes are chosen by node_id only: exact, prefix, suffix or contains")
    value, wanted = node, str(getattr(matcher.node_id, word))
    if matcher.node_id.ignore_case:
        value, wanted = value.lower(), wanted.lower()
    return FITS[word](value, wanted)


def _client(row: NodeRow, snapshot: Snapshot | None, contents: bool) -> ClientConfig:
    config = ClientConfig()
    config.node.id, config.node.cluster = row.id, row.cluster
    config.node.locality.region, config.node.locality.zone = row.node.region, row.node.zone
    if snapshot is not None:
        view = view_of(snapshot, row.node)
        for url, of_type in row.types.items():
            if url in view.types:
                config.generic_xds_configs.extend(_resources(of_type, view, url, contents))
    return config


def _resources(row: TypeRow, view: Snapshot, url: str, contents: bool) -> Iterator[ClientConfig.GenericXdsConfig]:
    refused = frozenset(row.nack.names) if row.nack is not None else frozenset()
    standing = _standing(row, view.types[url].version)
    for resource in view.types[url].resources.values():
        yield _resource(row, resource, ERROR if resource.name in refused else standing, contents and url in SHOWN)


def _standing(row: TypeRow, version: str) -> Any:
    if not row.sent_version:
        return NOT_SENT
    return SYNCED if row.current_version == version else STALE


def _resource(row: TypeRow, resource: Resource, standing: Any, contents: bool) -> ClientConfig.GenericXdsConfig:
    config = ClientConfig.GenericXdsConfig(
        type_url=resource.type_url, name=resource.name, version_info=resource.version, config_status=standing
    )
    if row.sent_at is not None:
        config.last_updated.FromDatetime(row.sent_at)
    if contents:
        config.xds_config.type_url, config.xds_config.value = resource.type_url, resource.data
    if standing == ERROR and row.nack is not None:
        config.error_state.CopyFrom(UpdateFailureState(details=row.nack.message, version_info=row.nack.version))
        config.error_state.last_update_attempt.FromDatetime(row.nack.at)
    return config
