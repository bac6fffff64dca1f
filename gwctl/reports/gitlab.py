"""GitLab's code quality report: a JSON list in the form of Code Climate's issues."""

import json
from collections.abc import Sequence
from typing import Any

from gateway.problems import Problem
from gwctl.reports.wording import NOWHERE, fingerprint, sentence


def report(problems: Sequence[Problem], _files: Sequence[str]) -> str:
    return json.dumps([_issue(problem) for problem in problems], indent=2, ensure_ascii=False) + "\n"


def _issue(problem: Problem) -> dict[str, Any]:
    place = problem.place
    return {
        "type": "issue",
        "check_name": problem.code,
        "description": sentence(problem),
        "categories": ["Bug Risk"],
        "severity": "critical" if problem.severity == "error" else "minor",
        "fingerprint": fingerprint(problem),
        "location": {"path": place.file if place else NOWHERE, "lines": {"begin": place.line if place else 1}},
    }
