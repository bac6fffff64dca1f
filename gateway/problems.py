"""Problems are values: what is wrong, where in the document, and what to do about it.

A problem names its place by path (`("modules", "orders", "routes", "get", "match")`); the line and column are looked up
when it is printed, so that one found late (a NACK of Envoy's included) still says `routes.yaml:41:9`.
"""

from dataclasses import dataclass
from typing import Literal

Path = tuple[str | int, ...]
"""A place in the merged document: keys and list indexes from the root."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `code` is stable (`GW101`), `help` the way out; a `warning` does not stop an apply."""

    code: str
    path: Path
    message: str
    help: str = ""
    severity: Literal["error", "warning"] = "error"
