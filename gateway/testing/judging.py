"""Whether what became of a step's requests is what was expected."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.explain import Explanation
from gateway.explain import Step as Told
from gateway.problems import Path, dotted
from gateway.testing.model import Expect

FROM_UPSTREAM: Final = 200


@dataclass(frozen=True, slots=True)
class Sent:
    """A request and what became of it. `limited_by`: the limit that refused it; `counted`: those that counted it.

    `headers`: of a real answer, names in lower case; None where none was there.
    """

    found: Explanation
    limited_by: str | None = None
    counted: frozenset[Path] = frozenset()
    headers: Mapping[str, str] | None = None

    @property
    def status(self) -> int:
        return self.found.answer.status or FROM_UPSTREAM


def judged(expect: Expect, sent: Sequence[Sent]) -> Iterator[str]:
    """One line for each expectation that does not hold."""
    for name, read in OF_ONE.items():
        wanted = getattr(expect, name)
        if wanted is not None:
            wrong = (seen for one in sent if (seen := read(one)) is not SKIPPED and not fits(wanted, seen))
            yield from (f"{name}: expected {shown(wanted)}, is {shown(seen)}" for seen in list(wrong)[:1])
    if expect.denied_by is not None:
        names = {name for one in sent for name in deniers(one.found)}
        if not names & set(several(expect.denied_by)):
            yield f"denied_by: expected {shown(expect.denied_by)}, is {shown(tuple(sorted(names)))}"
    if expect.limited_by is not None:
        limits = {one.limited_by for one in sent if one.limited_by}
        if not limits or not limits <= set(several(expect.limited_by)):
            yield f"limited_by: expected {shown(expect.limited_by)}, is {shown(tuple(sorted(limits)))}"
    if expect.first_limited is not None:
        first = next((at for at, one in enumerate(sent, 1) if one.limited_by), None)
        if first != expect.first_limited:
            yield f"first_limited: expected {expect.first_limited}, is {shown(first)}"
    yield from headers(expect, sent)


def headers(expect: Expect, sent: Sequence[Sent]) -> Iterator[str]:
    """Only a real Envoy has them."""
    for name, wanted in expect.response_headers.items():
        found = (one.headers.get(name.lower()) for one in sent if one.headers is not None)
        yield from (
            f"response_headers.{name}: expected {wanted}, is {shown(seen)}"
            for seen in [seen for seen in found if seen != wanted][:1]
        )


SKIPPED: Final = object()
"""An expectation that says nothing of this request: no upstream is asked by what a limit refuses."""


def upstream(one: Sent) -> Any:
    return SKIPPED if one.limited_by else one.found.upstreams


def timeout(one: Sent) -> Any:
    told = (step.facts["request_ms"] for step in one.found.steps if step.part == "timeouts")
    return SKIPPED if one.limited_by else next(told, None)


OF_ONE: Final[Mapping[str, Callable[[Sent], Any]]] = {
    "route": lambda one: one.found.route,
    "status": lambda one: one.status,
    "tier": lambda one: one.found.tier,
    "upstream": upstream,
    "timeout": timeout,
    "location": lambda one: one.found.location,
    "upstream_path": lambda one: SKIPPED if one.limited_by else one.found.upstream_path,
    "upstream_host": lambda one: SKIPPED if one.limited_by else one.found.upstream_host,
}


def fits(wanted: Any, seen: Any) -> bool:
    """Any of the wanted; where several are possible (shares of upstreams), each must be one of them."""
    allowed = several(wanted)
    return bool(seen) and all(one in allowed for one in seen) if isinstance(seen, tuple) else seen in allowed


def several(wanted: Any) -> tuple[Any, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)


def shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " or ".join(map(str, value)) or "nothing"
    return "nothing" if value is None else str(value)


# ------------------------------------------------------------------------------------------------------------- deniers
def deniers(found: Explanation) -> Iterator[str]:
    """What refused the request, as `denied_by` names it; by default, every allow rule that lacked something."""
    step = next((step for step in found.steps if step.answer is not None), None)
    if step is None or step.verdict != "no":
        return
    floor = "floor." if step.path and step.path[0] == "floor" else ""
    match step.part:
        case "authz" if "rule" in step.facts:
            yield f"{floor}authorization.{step.facts['rule']}"
        case "authz":
            yield f"{floor}authorization"
            lacking = (one for one in found.steps if allows_in(one, step.path or ()))
            yield from (f"{floor}authorization.{one.facts['rule']}" for one in lacking)
        case "authn":
            name = step.path[1] if step.path and len(step.path) == 2 and step.path[0] != "defaults" else ""
            yield f"authentication.{name}".removesuffix(".")
        case part:
            yield part


def allows_in(step: Told, block: Path) -> bool:
    facts = step.facts
    inside = (step.path or ())[: len(block)] == block
    return inside and facts.get("action") == "allow" and not facts["matched"] and not facts["shadow"]


def limit_name(path: Path, name: str | None) -> str:
    """As `limited_by` says it: its name, or where it is written."""
    return name or dotted(path)


@dataclass(slots=True)
class Verdict:
    """What became of a case.

    `disagreements`: where a real Envoy did otherwise than was explained. `note`: why none was asked.
    """

    failures: list[str] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)
    note: str = ""
