"""A policy that lets more through than before."""

from dataclasses import dataclass

from gateway.problems import Path


@dataclass(frozen=True, slots=True)
class Weakening:
    """`rule`: which comparison says so, stable for programs. `path`: what is weaker. `message`: how."""

    rule: str
    path: Path
    message: str
