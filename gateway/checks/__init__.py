"""One file per concern. Each has `problems(scope)`: an iterator over what is wrong in its concern, and nothing else."""

from collections.abc import Callable, Iterator
from typing import Final

from gateway.checks import references
from gateway.checks.scope import Scope
from gateway.problems import Problem

CHECKS: Final[tuple[Callable[[Scope], Iterator[Problem]], ...]] = (references.problems,)
