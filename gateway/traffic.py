"""What a route does to its traffic besides sending it on: one value a route, with everything inherited."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from gateway.model import BandwidthLimit, Cache, Compression, Csrf, FaultInjection, Policies, RequestBuffer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Traffic:
    """None: the policy is off on this route."""

    csrf: Csrf | None = None
    grpc_web: bool = False
    fault_injection: FaultInjection | None = None
    request_buffer: RequestBuffer | None = None
    bandwidth_limit: BandwidthLimit | None = None
    compression: Compression | None = None
    cache: Cache | None = None


NO_TRAFFIC = Traffic()


def traffic(levels: Sequence[Policies]) -> Traffic:
    """The policies of a route; `levels` are route, module, defaults: the nearest that says anything wins whole."""
    found = Traffic(
        csrf=_nearest(level.csrf for level in levels),
        grpc_web=_nearest(level.grpc_web for level in levels) or False,
        fault_injection=_nearest(level.fault_injection for level in levels),
        request_buffer=_nearest(level.request_buffer for level in levels),
        bandwidth_limit=_nearest(level.bandwidth_limit for level in levels),
        compression=_nearest(level.compression for level in levels),
        cache=_nearest(level.cache for level in levels),
    )
    return NO_TRAFFIC if found == NO_TRAFFIC else found


def _nearest(values: Iterable[T | Literal["none"] | None]) -> T | None:
    """`none` is an answer too: it turns an inherited policy off."""
    found = next((value for value in values if value is not None), None)
    return None if found == "none" else found
