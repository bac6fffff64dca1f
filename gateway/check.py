"""Sense: whether the parts of a gateway fit together. Types were settled by decoding; here is what they cannot say.

One file per concern in `gateway.checks`, each a function from a gateway to problems, linear in the number of routes.
"""

from collections.abc import Iterable
from typing import Final

from gateway.checks import CHECKS
from gateway.checks.scope import Scope
from gateway.model import Gateway
from gateway.naming import Names
from gateway.problems import Problem

MOST_ERRORS: Final = 100


def check(gateway: Gateway, names: Names | None = None) -> list[Problem]:
    """Every problem of a decoded gateway, errors and warnings, in no particular order.

    `names`: what the document defines, if that is more than the gateway holds (objects that could not be decoded).
    """
    scope = Scope.of(gateway, names or Names.of_gateway(gateway))
    return at_most(MOST_ERRORS, (problem for one in CHECKS for problem in one(scope)))


def at_most(errors: int, problems: Iterable[Problem]) -> list[Problem]:
    """The problems up to so many errors: looking for what was meant takes time, and nobody reads thousands."""
    found: list[Problem] = []
    left = errors
    for problem in problems:
        found.append(problem)
        left -= problem.severity == "error"
        if left == 0:
            return [*found, Problem("GW014", (), f"{errors} problems: only these are shown")]
    return found
