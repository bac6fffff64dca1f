"""Responses as bytes, serialised once for all streams that get the same.

A serialised protobuf message is a concatenation of fields, so the nonce, the only field that differs between streams,
is appended to the shared rest. Equal content has equal bytes in every process (statement 18).
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse, DiscoveryResponse
from envoy.service.discovery.v3.discovery_pb2 import Resource as ResourceMessage
from google.protobuf.any_pb2 import Any

from xds_server.ads.events import Send
from xds_server.resources import PREFIX, Resource

Key = tuple[str, str, frozenset[str], tuple[str, ...], frozenset[str], bool, bool]

ENTRIES: Final = 128
BYTES: Final = 64 * 1024 * 1024


def _any(resource: Resource) -> Any:
    return Any(type_url=resource.type_url, value=resource.data)


def _sotw(send: Send) -> bytes:
    message = DiscoveryResponse(
        version_info=send.version, type_url=send.type_url, resources=[_in_sotw(send, r) for r in send.resources]
    )
    return message.SerializeToString(deterministic=True)


def _delta(send: Send) -> bytes:
    message = DeltaDiscoveryResponse(
        system_version_info=send.version,
        type_url=send.type_url,
        resources=[_resource(send, resource, resource.version) for resource in send.resources],
        removed_resources=[name for name in send.removed if name not in send.unknown],
    )
    for name in send.removed:
        if name in send.unknown:  # without content: that ends Envoy's wait for it, where a removal would not
            message.resources.add(name=name, aliases=(name,))
    return message.SerializeToString(deterministic=True)


def _resource(send: Send, resource: Resource, version: str) -> ResourceMessage:
    message = ResourceMessage(name=resource.name, aliases=resource.aliases, version=version)
    if send.ttl and resource.ttl:
        message.ttl.FromMilliseconds(round(resource.ttl * 1000))
    if not send.bare:
        message.resource.CopyFrom(_any(resource))
    return message


def _in_sotw(send: Send, resource: Resource) -> Any:
    """What lives for a while is wrapped, under the version of the whole response: SotW knows no other."""
    if not (send.ttl and resource.ttl):
        return _any(resource)
    return Any(
        type_url=PREFIX + ResourceMessage.DESCRIPTOR.full_name,
        value=_resource(send, resource, send.version).SerializeToString(deterministic=True),
    )


def _sotw_nonce(nonce: str) -> bytes:
    return DiscoveryResponse(nonce=nonce).SerializeToString()


def _delta_nonce(nonce: str) -> bytes:
    return DeltaDiscoveryResponse(nonce=nonce).SerializeToString()


class Encoder:
    """One variant's responses. Keeps the shared parts made last, bounded in number and in bytes."""

    def __init__(
        self, shared: Callable[[Send], bytes], nonce: Callable[[str], bytes], entries: int = ENTRIES, size: int = BYTES
    ) -> None:
        self.encoded = 0
        """How often a shared part was serialised."""
        self._shared = shared
        self._nonce = nonce
        self._cache: OrderedDict[Key, bytes] = OrderedDict()
        self._entries, self._size, self._used = entries, size, 0

    def __call__(self, send: Send) -> bytes:
        return self._part(send) + self._nonce(send.nonce)

    def _part(self, send: Send) -> bytes:
        # The version covers all names and contents of the type, so the names select the rest.
        names = frozenset(r.name for r in send.resources)
        key = (send.type_url, send.version, names, send.removed, send.unknown, send.ttl, send.bare)
        part = self._cache.get(key)
        if part is None:
            part = self._cache[key] = self._shared(send)
            self.encoded += 1
            self._used += len(part)
            self._evict()
        else:
            self._cache.move_to_end(key)
        return part

    def _evict(self) -> None:
        while len(self._cache) > self._entries or (self._used > self._size and len(self._cache) > 1):
            _, part = self._cache.popitem(last=False)
            self._used -= len(part)


def sotw_encoder() -> Encoder:
    return Encoder(_sotw, _sotw_nonce)


def delta_encoder() -> Encoder:
    return Encoder(_delta, _delta_nonce)
