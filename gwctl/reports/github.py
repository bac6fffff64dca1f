"""Annotations of GitHub Actions: workflow commands on standard output, shown at the lines of a pull request."""

from collections.abc import Sequence

from gateway.problems import Problem
from gwctl.reports.wording import sentence


def report(problems: Sequence[Problem], _files: Sequence[str]) -> str:
    """`::error file=routes.yaml,line=4,col=20,title=GW101::…`, a line each."""
    return "".join(f"::{problem.severity} {_properties(problem)}::{_data(sentence(problem))}\n" for problem in problems)


def _properties(problem: Problem) -> str:
    place = problem.place
    found = {"file": place.file, "line": str(place.line), "col": str(place.column)} if place else {}
    return ",".join(f"{name}={_property(value)}" for name, value in {**found, "title": problem.code}.items())


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
