"""An explanation as JSON for programs, and that as text for people."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.explain.explanation import Explanation, Step
from gateway.places import Where

PART: Final = 12
TEXT: Final = 72
UPSTREAM: Final = "the upstream's answer"


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
        "steps": [_step(step, known) for step in found.steps],
        "not_reached": [_step(step, known) | {"text": step.brief} for step in found.not_reached],
        "possible": [{"status": one.status, "why": one.why} for one in found.possible],
        "not_proven": list(found.unproven),
    }


def _step(step: Step, where: Where) -> dict[str, Any]:
    place = where.locate(step.path) if step.path else None
    return {
        "part": step.part,
        "verdict": step.verdict,
        "text": step.text,
        "place": str(place) if place else None,
        "path": list(step.path) if step.path else None,
        "facts": dict(step.facts),
    }


def text(document: Mapping[str, Any]) -> str:
    """`as_json` as lines: one a step, with its place; what was not reached; what else may come; the status alone."""
    return "\n".join(map(_printable, _lines(document))) + "\n"


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    for step in document["steps"]:
        line = f"{step['part']:<{PART}}{step['text']}"
        yield f"{line:<{PART + TEXT}}  {step['place']}" if step["place"] else line
    if document["not_reached"]:
        yield "-- not reached: " + " · ".join(step["text"] for step in document["not_reached"])
    yield from (f"-- or {one['status']}: {one['why']}" for one in document["possible"])
    yield from (f"-- not proven: {taken}" for taken in document["not_proven"])
    yield f"{document['status'] or UPSTREAM}  {document['details']}".rstrip()


def _printable(line: str) -> str:
    """What strangers wrote into a request must not reach a terminal as control characters."""
    return "".join(character if character.isprintable() else "�" for character in line)
