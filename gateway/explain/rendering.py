"""An explanation as text for people and as JSON for programs; places by `Where`."""

from collections.abc import Iterator
from typing import Any, Final

from gateway.explain.explanation import Explanation, Step
from gateway.places import Where

PART: Final = 12
TEXT: Final = 72
UPSTREAM: Final = "the upstream's answer"


def text(found: Explanation, where: Where | None = None) -> str:
    """One line a step, with its place; then what was not reached, what else may come, and the status alone."""
    return "\n".join(lines(found, where or Where())) + "\n"


def lines(found: Explanation, where: Where) -> Iterator[str]:
    for step in found.steps:
        place = place_of(step, where)
        line = f"{step.part:<{PART}}{step.text}"
        yield f"{line:<{PART + TEXT}}  {place}".rstrip() if place else line
    if found.not_reached:
        yield "-- not reached: " + " · ".join(step.brief for step in found.not_reached)
    for possible in found.possible:
        yield f"-- or {possible.status}: {possible.why}"
    for taken in found.unproven:
        yield f"-- not proven: {taken}"
    details = f"  {found.answer.details}" if found.answer.details else ""
    yield f"{found.answer.status or UPSTREAM}{details}"


def place_of(step: Step, where: Where) -> str:
    place = where.locate(step.path) if step.path else None
    return str(place) if place else ""


def as_json(found: Explanation, where: Where | None = None) -> dict[str, Any]:
    """`status` null: the upstream's. `place`: `file:line:column` where that is known."""
    known = where or Where()
    return {
        "status": found.answer.status,
        "details": found.answer.details,
        "by": found.answer.by,
        "kind": found.kind,
        "listener": found.listener,
        "host": found.host,
        "route": found.route,
        "path": found.path,
        "location": found.location,
        "upstreams": list(found.upstreams),
        "upstream_path": found.upstream_path,
        "upstream_host": found.upstream_host,
        "steps": [step_json(step, known) for step in found.steps],
        "not_reached": [step_json(step, known) for step in found.not_reached],
        "possible": [{"status": one.status, "why": one.why} for one in found.possible],
        "not_proven": list(found.unproven),
    }


def step_json(step: Step, where: Where) -> dict[str, Any]:
    return {
        "part": step.part or "route",
        "verdict": step.verdict,
        "text": step.text,
        "place": place_of(step, where) or None,
        "path": list(step.path) if step.path else None,
        "facts": dict(step.facts),
    }
