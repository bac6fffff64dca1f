"""Sense: whether the parts of a gateway fit together. Types were settled by decoding; here is what they cannot say.

One file per concern in `gateway.checks`, each a function from a gateway to problems, linear in the number of routes.
"""

from gateway.checks import CHECKS
from gateway.checks.scope import Scope
from gateway.model import Gateway
from gateway.naming import Names
from gateway.problems import Problem


def check(gateway: Gateway, names: Names | None = None) -> list[Problem]:
    """Every problem of a decoded gateway, errors and warnings, in no particular order.

    `names`: what the document defines, if that is more than the gateway holds (objects that could not be decoded).
    """
    scope = Scope.of(gateway, names or Names.of_gateway(gateway))
    return [problem for one in CHECKS for problem in one(scope)]
