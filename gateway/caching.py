"""What Envoy tells the decision service of a route's response cache: both ends of one header of gRPC metadata.

It travels on Envoy's own stream to the service, where no client can write: which route this is, and what may be kept.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

METADATA: Final = "tollhouse-cache"


@dataclass(frozen=True, slots=True)
class Terms:
    """`ttl` in milliseconds, `max_size` in bytes, `vary_by`: names of headers.

    `guarded`: the route knows its callers, so an answer is one caller's unless it says that it is for all.
    """

    route: str
    ttl: int
    max_size: int
    vary_by: tuple[str, ...] = ()
    guarded: bool = True

    def written(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))


def read(text: str) -> Terms:
    """Raises ValueError."""
    found: Any = json.loads(text)
    try:
        return Terms(**found | {"vary_by": tuple(found["vary_by"])})
    except (TypeError, KeyError) as error:
        raise ValueError("not the terms of a cache") from error
