"""The names that a document defines: a reference dangles only if nobody even tried to define what it names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.document import KINDS, Key
from gateway.model import Gateway

NO_OWNERS: Final[Mapping[Key, str]] = {}

WAYS: Final = ("jwt_providers", "api_keys", "basic_auth", "client_certificates", "oidc")
"""The kinds of objects that `authentication` may name."""


@dataclass(frozen=True)
class Names:
    """`written` has the names of each kind, in order.

    `owners`: of the objects, where files say it. `complete`: the whole document could be read. `decoded`: every object
    is in the gateway that is checked.
    """

    written: Mapping[str, tuple[str, ...]]
    complete: bool = True
    decoded: bool = True
    owners: Mapping[Key, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, document: Mapping[str, Any], owners: Mapping[Key, str] = NO_OWNERS, *, complete: bool = True
    ) -> "Names":
        bodies = {kind: document.get(kind) for kind in KINDS}
        return cls(
            {kind: tuple(body) for kind, body in bodies.items() if isinstance(body, dict)}, complete, owners=owners
        )

    @classmethod
    def of_gateway(cls, gateway: Gateway) -> "Names":
        kinds = ("listeners", "upstreams", *WAYS, "tiers", "modules")
        return cls({kind: tuple(getattr(gateway, kind)) for kind in kinds})

    def __getitem__(self, kind: str) -> tuple[str, ...]:
        return self.written.get(kind, ())
