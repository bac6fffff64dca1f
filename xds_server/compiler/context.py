"""What every hook of a filter may look at: the whole document and the settings, and one route with its caller."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from gateway.model import Gateway
from gateway.resolve import ResolvedRoute
from xds_server.compiler.identity import Identity
from xds_server.compiler.settings import Secret, Settings
from xds_server.compiler.wire import pack


@dataclass(frozen=True, slots=True)
class Context:
    """One compilation.

    `routes`: all of the document, in the order Envoy must try them. `closed_*`: objects that could not be compiled;
    what needs them is closed too.
    """

    gateway: Gateway
    settings: Settings
    secrets: Mapping[str, Secret]
    routes: tuple[ResolvedRoute, ...] = ()
    closed_providers: frozenset[str] = frozenset()
    closed_upstreams: frozenset[str] = frozenset()
    _packed: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def packed(self, key: Hashable, build: Callable[[], Message]) -> Any:
        """`build()` as an Any, made once per key: thousands of routes share a few distinct filter configurations."""
        found = self._packed.get(key)
        if found is None:
            found = self._packed[key] = pack(build())
        return found


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """A route as the filters see it. Routes that Tollhouse adds have no `resolved` route and an open identity."""

    identity: Identity
    resolved: ResolvedRoute | None = None

    @property
    def reaches_upstream(self) -> bool:
        return self.resolved is not None and self.resolved.route.backends is not None
