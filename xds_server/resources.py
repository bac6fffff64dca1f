"""Envoy resources by type and name, and the immutable snapshot that streams serve.

A resource is serialised once, deterministically; its version is the hash of its bytes. Equal content therefore has
equal bytes and an equal version in every process, and a push happens exactly when bytes differ (xDS statements 14, 15,
18).
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.route.v3.route_components_pb2 import VirtualHost
from google.protobuf.message import Message

from gateway.model import NodeSelector

PREFIX: Final = "type.googleapis.com/"
CLUSTER: Final = PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINTS: Final = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = PREFIX + "envoy.config.listener.v3.Listener"
ROUTES: Final = PREFIX + "envoy.config.route.v3.RouteConfiguration"
SCOPED_ROUTES: Final = PREFIX + "envoy.config.route.v3.ScopedRouteConfiguration"
SECRET: Final = PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
EXTENSION: Final = PREFIX + "envoy.config.core.v3.TypedExtensionConfig"
VIRTUAL_HOST: Final = PREFIX + "envoy.config.route.v3.VirtualHost"
RUNTIME: Final = PREFIX + "envoy.service.runtime.v3.Runtime"
RATE_LIMITS: Final = PREFIX + "ratelimit.config.ratelimit.v3.RateLimitConfig"

PUSH_ORDER: Final = (
    RUNTIME,
    CLUSTER,
    ENDPOINTS,
    SECRET,
    EXTENSION,
    LISTENER,
    SCOPED_ROUTES,
    ROUTES,
    VIRTUAL_HOST,
    RATE_LIMITS,
)
"""Make before break: what is referred to goes out before what refers to it (xDS protocol, "Eventual consistency").

Listeners and scopes ask for their route tables by name once they know them. Until a new scope has its table its
requests are answered 404, which is what they were answered before.
"""

NODE_FILES: Final = "tollhouse/files:"
"""What the names of secrets begin with whose content is in files on the node, and may be missing there."""

NAME_FIELD: Final = {ENDPOINTS: "cluster_name"}  # every other type calls it `name`


def version_of(data: bytes) -> str:
    """The content-hash version of serialised bytes: 16 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def endpoints_of(message: Message) -> str:
    """The name under which this cluster's endpoints come over EDS, or "" if they do not."""
    if isinstance(message, Cluster) and message.type == Cluster.EDS:
        return message.eds_cluster_config.service_name or message.name
    return ""


def aliases_of(message: Message) -> tuple[str, ...]:
    """The names under which Envoy asks for this virtual host on demand: `<route table>/<host>` (xDS statement 46).

    A virtual host is called `<route table>/<anything>`. Domains with a wildcard have none: nobody sends such a host.
    """
    if not isinstance(message, VirtualHost):
        return ()
    table = message.name.rpartition("/")[0]
    return tuple(f"{table}/{domain}" for domain in message.domains if "*" not in domain)


@dataclass(frozen=True, slots=True)
class Resource:
    """One serialised resource. `data` is the message itself, without the Any around it.

    `endpoints` names the ClusterLoadAssignment that an EDS cluster warms on (empty for everything else): whoever gets
    such a cluster anew needs that assignment again (xDS statement 49). `aliases` count as its name where a client
    subscribes. `ttl`: seconds after which a client drops it unless it is told that it stands; 0 for ever.
    """

    type_url: str
    name: str
    data: bytes
    version: str
    endpoints: str = ""
    aliases: tuple[str, ...] = ()
    ttl: float = 0.0

    @classmethod
    def of(cls, message: Message, ttl: float = 0.0) -> "Resource":
        type_url = PREFIX + message.DESCRIPTOR.full_name
        data = message.SerializeToString(deterministic=True)
        name = getattr(message, NAME_FIELD.get(type_url, "name"))
        version = version_of(data + f"\0{ttl}".encode() if ttl else data)  # another life is another version
        return cls(type_url, name, data, version, endpoints_of(message), aliases_of(message), ttl)


class Serialised:
    """Resources of messages that were seen before are not made again. It knows a message by its identity."""

    def __init__(self) -> None:
        self._old: dict[int, tuple[Message, Resource]] = {}
        self._new: dict[int, tuple[Message, Resource]] = {}

    def of(self, message: Message) -> Resource:
        found = self._old.get(id(message)) or (message, Resource.of(message))
        self._new[id(message)] = found  # held, so nothing else can get its identity
        return found[1]

    def end(self) -> None:
        """A snapshot is made: what is not in it is forgotten."""
        self._old, self._new = self._new, {}


@dataclass(frozen=True)
class TypeSnapshot:
    """All resources of one type, by name in sorted order. `version` covers the names and contents of all."""

    type_url: str
    resources: Mapping[str, Resource]

    @cached_property
    def by_alias(self) -> Mapping[str, Resource]:
        """The first in name order, where several have one alias."""
        return {alias: r for r in reversed(tuple(self.resources.values())) for alias in r.aliases}

    @cached_property
    def version(self) -> str:
        return version_of("\n".join(f"{r.name}\0{r.version}" for r in self.resources.values()).encode())


@dataclass(frozen=True, slots=True)
class Share:
    """Who gets one listener of the document: the nodes that match, all without `nodes`.

    `reach`: the clusters and secrets that come with it, by type and name.
    """

    listener: str
    nodes: NodeSelector | None
    reach: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Snapshot:
    """What one group of nodes should have. `revision` is the store's number, `types` keyed by type URL.

    `shares`: one for each listener if nodes get different ones (`ads/groups.py` makes their views), else none.
    """

    revision: int
    types: Mapping[str, TypeSnapshot]
    shares: tuple[Share, ...] = ()
    views: dict[frozenset[str], "Snapshot"] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Those that were made of it, by listeners."""

    @classmethod
    def of(
        cls,
        revision: int,
        messages: Iterable[Message],
        serialise: Callable[[Message], Resource] = Resource.of,
        shares: tuple[Share, ...] = (),
    ) -> "Snapshot":
        """Raises ValueError for two resources of one type and name (xDS statement 31)."""
        by_type: dict[str, dict[str, Resource]] = {type_url: {} for type_url in PUSH_ORDER}
        for resource in map(serialise, messages):
            names = by_type.setdefault(resource.type_url, {})
            if resource.name in names:
                raise ValueError(f"two resources are called {resource.name!r} in {resource.type_url}")
            names[resource.name] = resource
        return cls(
            revision,
            MappingProxyType(
                {
                    url: TypeSnapshot(url, MappingProxyType(dict(sorted(names.items()))))
                    for url, names in by_type.items()
                }
            ),
            shares,
        )

    @cached_property
    def version(self) -> str:
        """One hash over everything: equal in every process that compiled the same model."""
        return version_of("\n".join(f"{url} {t.version}" for url, t in sorted(self.types.items())).encode())
