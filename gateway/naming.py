"""The names that a document defines: a reference dangles only if nobody even tried to define what it names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.document import KINDS
from gateway.model import Gateway


@dataclass(frozen=True)
class Names:
    """`written` has the names of each kind, in order.

    `complete`: the whole document could be read. `decoded`: every object is in the gateway that is checked.
    """

    written: Mapping[str, tuple[str, ...]]
    complete: bool = True
    decoded: bool = True

    @classmethod
    def of(cls, document: Mapping[str, Any], *, complete: bool = True) -> "Names":
        bodies = {kind: document.get(kind) for kind in KINDS}
        return cls({kind: tuple(body) for kind, body in bodies.items() if isinstance(body, dict)}, complete)

    @classmethod
    def of_gateway(cls, gateway: Gateway) -> "Names":
        kinds = ("listeners", "upstreams", "jwt_providers", "api_keys", "tiers", "modules")
        return cls({kind: tuple(getattr(gateway, kind)) for kind in kinds})

    def __getitem__(self, kind: str) -> tuple[str, ...]:
        return self.written.get(kind, ())
