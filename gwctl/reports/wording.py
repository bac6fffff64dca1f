"""What all reports say alike."""

import hashlib
from typing import Final

from gateway.problems import Problem, dotted

NOWHERE: Final = "gateway"
"""Stands for the file of a problem that is in none of them."""


def sentence(problem: Problem) -> str:
    """The message and the way out, in one text that every encoding of Unicode has."""
    text = f"{problem.message}\nhelp: {problem.help}" if problem.help else problem.message
    return text.encode(errors="replace").decode()


def fingerprint(problem: Problem) -> str:
    """Equal for the same problem after lines were added above it, so that CI can tell old findings from new ones."""
    parts = (problem.code, problem.place.file if problem.place else "", dotted(problem.path), problem.message)
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()
