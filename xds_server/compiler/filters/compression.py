"""Compression of answers: gzip, brotli, zstd, whichever the caller likes best of those that the route offers.

Envoy's compressor takes its settings once a filter and not once a route. So the chain holds an empty place (composite),
and each route says which compressors stand in it. Upstreams still see what the caller accepts and may compress by
themselves; what they have compressed is passed on as it is. Partial answers (206) are left alone: their ranges are
counted in the bytes of the whole.
"""

from collections.abc import Iterator
from typing import Final

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.extensions.common.matching.v3.extension_matcher_pb2 import ExtensionWithMatcher, ExtensionWithMatcherPerRoute
from envoy.extensions.compression.brotli.compressor.v3.brotli_pb2 import Brotli
from envoy.extensions.compression.gzip.compressor.v3.gzip_pb2 import Gzip
from envoy.extensions.compression.zstd.compressor.v3.zstd_pb2 import Zstd
from envoy.extensions.filters.common.matcher.action.v3.skip_action_pb2 import SkipFilter
from envoy.extensions.filters.http.composite.v3.composite_pb2 import (
    Composite,
    ExecuteFilterAction,
    FilterChainConfiguration,
)
from envoy.extensions.filters.http.compressor.v3.compressor_pb2 import Compressor
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from xds.core.v3.extension_pb2 import TypedExtensionConfig as TypedAction
from xds.type.matcher.v3.matcher_pb2 import Matcher

from gateway.model import Compression, Listener
from xds_server.compiler.context import Context
from xds_server.compiler.filters import Stage, optional_filter
from xds_server.compiler.identity import RouteSpec
from xds_server.compiler.wire import exact, extension, uint32

NAME: Final = "tollhouse/compression"
LIBRARIES: Final[dict[str, type[Message]]] = {"br": Brotli, "gzip": Gzip, "zstd": Zstd}
PARTIAL: Final = 206


def configure(context: Context, listener: Listener) -> HttpFilter | None:
    place = ExtensionWithMatcher(
        extension_config=extension("envoy.filters.http.composite", Composite()),
        xds_matcher=always("skip", SkipFilter()),
    )
    return optional_filter(NAME, place)


def on_route(context: Context, spec: RouteSpec) -> Any | None:
    compression = spec.resolved.traffic.compression if spec.resolved is not None else None
    if compression is None:
        return None
    return context.packed((NAME, id(compression)), lambda: of_route(compression))


def of_route(compression: Compression) -> ExtensionWithMatcherPerRoute:
    chain = FilterChainConfiguration(typed_config=compressors(compression))
    return ExtensionWithMatcherPerRoute(xds_matcher=always("compress", ExecuteFilterAction(filter_chain=chain)))


def compressors(compression: Compression) -> Iterator[TypedExtensionConfig]:
    """Of types that the caller likes equally, Envoy takes the one that was asked to be chosen first."""
    for index, kind in enumerate(compression.types):
        config = Compressor(
            response_direction_config=Compressor.ResponseDirectionConfig(
                common_config=common(compression), uncompressible_response_codes=[PARTIAL]
            ),
            compressor_library=extension(kind, LIBRARIES[kind]()),
            choose_first=index == 0,
        )
        yield extension(f"{NAME}/{kind}", config)


def common(compression: Compression) -> Compressor.CommonDirectionConfig:
    config = Compressor.CommonDirectionConfig(min_content_length=uint32(compression.min_content_length))
    config.MergeFromString(content_types(compression.content_types))
    return config


def content_types(types: tuple[str, ...]) -> bytes:
    """Envoy 1.40's `repeated StringMatcher content_type_matcher = 4`, on the wire.

    The protobufs that we have are older, and the list of plain strings that they know is deprecated.
    """
    wire = b""
    for text in types:
        matcher = exact(text).SerializeToString(deterministic=True)
        wire += bytes([4 << 3 | 2, len(matcher)]) + matcher
    return wire


def always(name: str, action: Message) -> Matcher:
    return Matcher(on_no_match=Matcher.OnMatch(action=typed(name, action)))


def typed(name: str, message: Message) -> TypedAction:
    return TypedAction(name=name, typed_config=extension(name, message).typed_config)


STAGE: Final = Stage(NAME, "what is compressed is the answer as the upstream or the cache gave it", configure, on_route)
