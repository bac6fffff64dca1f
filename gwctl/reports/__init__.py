"""Problems in the shapes that CI systems read, each a pure function of the problems and the names of the files.

To add one: a file with one such function, and its name here.
"""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Final

from gateway.problems import Problem
from gwctl.reports import github, gitlab, junit, sarif

Report = Callable[[Sequence[Problem], Sequence[str]], str]

REPORTS: Final = MappingProxyType(
    {"sarif": sarif.report, "junit": junit.report, "github": github.report, "gitlab": gitlab.report}
)
