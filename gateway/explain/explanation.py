"""What `explain` says: steps in the order in which Envoy takes them, the answer, and what was not come to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.problems import Path

Verdict = Literal["ok", "no", "note"]


@dataclass(frozen=True, slots=True)
class Answer:
    """Who answers with what. `status` None: whatever the upstream says.

    `details`: Envoy's response code details (`%RESPONSE_CODE_DETAILS%`), or how they begin; "" where that varies.
    """

    status: int | None
    details: str
    by: Literal["gateway", "upstream"] = "gateway"


@dataclass(frozen=True, slots=True)
class Possible:
    """Another answer that the request may get, for a reason that is not in it."""

    status: int
    why: str


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was decided. `path`: where the document says so.

    `answer`: this step ends the request. `brief`: its name in the list of what was not reached, empty for what need not
    be there. `facts`: the same for programs, JSON-like.
    """

    part: str
    text: str
    path: Path | None = None
    verdict: Verdict = "note"
    answer: Answer | None = None
    possible: tuple[Possible, ...] = ()
    brief: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Explanation:
    """`route`: `module/name`, None where none of the document's takes the request. `path`: after normalisation.

    `unproven`: what was taken for granted (a signature that nobody checked). `upstream_path`, `upstream_host`: what an
    upstream is asked for, None where none is; a host that is not rewritten is the request's own. `tier`: the caller's,
    None where nobody is known to call.
    """

    answer: Answer
    steps: tuple[Step, ...]
    not_reached: tuple[Step, ...] = ()
    possible: tuple[Possible, ...] = ()
    unproven: tuple[str, ...] = ()
    kind: str = "route"
    listener: str = ""
    host: str = ""
    route: str | None = None
    path: str = ""
    upstreams: tuple[str, ...] = ()
    upstream_path: str | None = None
    upstream_host: str | None = None
    location: str | None = None
    tier: str | None = None
