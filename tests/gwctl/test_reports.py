"""Reports for CI: each broken document of the error cases in each shape, held to the shape's own standard."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from gateway.problems import Place, Problem
from gateway.read import load
from gwctl.commands.validate import judge
from gwctl.main import run
from gwctl.output import FORMATS
from gwctl.reports import REPORTS

SCHEMAS = Path(__file__).parent / "schemas"
ERRORS = Path(__file__).parent.parent / "gateway" / "errors"
CASES = sorted(path.parent.name for path in ERRORS.glob("*/in.yaml") if path.parent.name != "not-utf8")
ODD = Problem(
    "GW999", ("a", 0), 'of <none> & "all":\x00\ud800 100%\nnext, line', "50% more", "error", Place("a b,c:d.yaml", 3, 7)
)
NOWHERE = Problem("GW701", (), "Envoy refuses this: no idea")


def schema(name: str) -> Any:
    loaded = json.loads((SCHEMAS / f"{name}.json").read_text())
    return jsonschema.validators.validator_for(loaded)(loaded)


@cache
def problems(case: str) -> tuple[Problem, ...]:
    if case == "odd":
        return (ODD, NOWHERE)
    return tuple(judge(load([("in.yaml", (ERRORS / case / "in.yaml").read_text())]), None).problems)


everything = pytest.mark.parametrize("case", [*CASES, "odd"])


def test_there_are_more_than_forty_broken_documents() -> None:
    assert len(CASES) > 40
    assert sum(any(problem.severity == "error" for problem in problems(case)) for case in CASES) > 40


@everything
def test_sarif(case: str) -> None:
    document = json.loads(REPORTS["sarif"](problems(case), ["in.yaml"]))
    schema("sarif-2.1.0").validate(document)
    (run_,) = document["runs"]
    found = [(result["ruleId"], result["level"]) for result in run_["results"]]
    assert found == [(problem.code, problem.severity) for problem in problems(case)]
    rules = [rule["id"] for rule in run_["tool"]["driver"]["rules"]]
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in run_["results"])


@everything
def test_gitlab(case: str) -> None:
    issues = json.loads(REPORTS["gitlab"](problems(case), ["in.yaml"]))
    for issue in issues:
        schema("codeclimate").validate(issue)
    assert [issue["check_name"] for issue in issues] == [problem.code for problem in problems(case)]


@everything
def test_junit(case: str) -> None:
    root = ElementTree.fromstring(REPORTS["junit"](problems(case), ["in.yaml"]))
    errors = sum(problem.severity == "error" for problem in problems(case))
    assert len(root.findall(".//failure")) == errors
    assert sum(int(suite.attrib["failures"]) for suite in root) == errors
    for suite in root:
        assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))


@everything
def test_github(case: str) -> None:
    lines = REPORTS["github"](problems(case), ["in.yaml"]).splitlines()
    assert len(lines) == len(problems(case)), "one line each, whatever the message holds"
    for line, problem in zip(lines, problems(case), strict=True):
        found = re.fullmatch(r"::(error|warning) ((?:\w+=[^,:]*,?)+)::(.*)", line)
        assert found is not None, line
        properties = dict(part.split("=", 1) for part in found[2].split(","))
        place = {"line": str(problem.place.line), "col": str(problem.place.column)} if problem.place else {}
        assert {name: properties.get(name) for name in ("title", *place)} == {"title": problem.code, **place}


def test_what_has_no_place_is_told_all_the_same() -> None:
    assert "GW701" in REPORTS["github"]([NOWHERE], [])
    (issue,) = json.loads(REPORTS["gitlab"]([NOWHERE], []))
    assert issue["location"] == {"path": "gateway", "lines": {"begin": 1}}
    suite = ElementTree.fromstring(REPORTS["junit"]([NOWHERE], ["a.yaml"])).find("testsuite[@name='gateway']")
    assert suite is not None


def test_a_finding_keeps_its_fingerprint_when_lines_move() -> None:
    text = (ERRORS / "dangling" / "in.yaml").read_text()
    one, other = (
        json.loads(REPORTS["gitlab"](tuple(load([("in.yaml", t)]).problems), [])) for t in (text, f"# a\n{text}")
    )
    assert [issue["fingerprint"] for issue in one] == [issue["fingerprint"] for issue in other]
    assert [issue["location"] for issue in one] != [issue["location"] for issue in other]


@pytest.mark.parametrize("output", [*FORMATS, *REPORTS])
def test_the_exit_code_is_the_same_whatever_the_output(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    listener = "version: 1\nlisteners: {http: {port: 8080}}\n"
    for name, text, code in (
        ("good", listener, 0),
        ("bad", listener.replace("port", "prot"), 3),
        ("no-yaml", "a: [", 3),
    ):
        Path(f"{name}.yaml").write_text(text)
        assert run(["validate", "--no-envoy", "-o", output, f"{name}.yaml"]) == code, name
        said = capsys.readouterr().out
        assert ("GW" in said) == (code == 3), "what is wrong is said in every shape"
    assert run(["validate", "--no-envoy", "-o", output, "absent.yaml"]) == 64
    assert capsys.readouterr().out == ""
