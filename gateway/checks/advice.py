"""What is allowed and deserves a second look: doors left open. All of it warnings.

Who means it says so beside the line: `# gwctl: ignore GW261`.
"""

from collections.abc import Iterator

from gateway.checks.scope import Scope
from gateway.problems import Problem
from gateway.resolve import ResolvedRoute


def problems(scope: Scope) -> Iterator[Problem]:
    for route in scope.routes:
        yield from _open_to_an_upstream(route)


def _open_to_an_upstream(route: ResolvedRoute) -> Iterator[Problem]:
    if route.authentication == "none" and route.route.backends is not None:
        own = route.route.authentication is not None
        path = (*route.path, "authentication") if own else route.path
        message = f"anyone may call {route.full_name}, and it reaches an upstream"
        yield Problem(
            "GW261", path, message, "name in `authentication` who may call, or say that it is meant", "warning"
        )
