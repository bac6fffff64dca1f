"""What compilation found wrong, gathered: one object's problem never stops the others."""

from dataclasses import dataclass, field

from gateway.problems import Path, Problem
from xds_server.compiler.errors import CompileError


@dataclass(slots=True)
class Findings:
    """`strict`: an error that is no CompileError is a bug of ours and is raised, not reported."""

    strict: bool = False
    problems: list[Problem] = field(default_factory=list)

    def warn(self, code: str, path: Path, message: str, help_: str = "") -> None:
        """Records what is worth knowing and closes nothing."""
        self.problems.append(Problem(code, path, message, help_, "warning"))

    def add(self, path: Path, error: Exception) -> str:
        """Records the problem and returns its code."""
        if isinstance(error, CompileError):
            problem = Problem(error.code, (*path, *error.field), error.message)
        elif self.strict:
            raise error
        else:
            problem = Problem("GW603", path, f"this could not be compiled: {type(error).__name__}: {error}")
        self.problems.append(problem)
        return problem.code
