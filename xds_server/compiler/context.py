"""What every part of one compilation may look at, and what they make only once."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from gateway.model import Gateway
from gateway.resolve import ResolvedRoute
from xds_server.compiler.settings import Secret, Settings
from xds_server.compiler.wire import pack

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Context:
    """One compilation.

    `kinds`: of each module's routes, one of each way to authenticate and be limited. `closed_*`: objects that could
    not be compiled, with the code of the problem; what needs them is closed too.
    """

    gateway: Gateway
    settings: Settings
    secrets: Mapping[str, Secret]
    kinds: tuple[ResolvedRoute, ...] = ()
    closed_providers: Mapping[str, str] = field(default_factory=dict)
    closed_upstreams: Mapping[str, str] = field(default_factory=dict)
    closed_logins: Mapping[str, str] = field(default_factory=dict)
    _made: dict[Hashable, object] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Hashable, build: Callable[[], T]) -> T:
        """`build()`, made once per key: thousands of routes share a few distinct parts. Nobody may change what it made.

        Parts of the document go into the key by their `id`: they live as long as the document, and few can be hashed.
        """
        if key not in self._made:
            self._made[key] = build()
        return cast("T", self._made[key])

    def packed(self, key: Hashable, build: Callable[[], Message]) -> Any:
        """The same, as an Any."""
        return self.once(key, lambda: pack(build()))
