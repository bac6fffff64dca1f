"""SARIF 2.1.0 (OASIS): what code scanning services read."""

import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final
from urllib.parse import quote

from gateway.codes import CODES
from gateway.problems import Problem, dotted
from gwctl.reports.wording import fingerprint, sentence

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"


def report(problems: Sequence[Problem], files: Sequence[str]) -> str:
    codes = sorted({problem.code for problem in problems})
    run = {
        "tool": {"driver": {"name": "gwctl", "version": _version(), "rules": [_rule(code) for code in codes]}},
        "artifacts": [{"location": {"uri": quote(name)}} for name in files],
        "columnKind": "unicodeCodePoints",
        "results": [_result(problem, codes) for problem in problems],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _rule(code: str) -> dict[str, Any]:
    known = CODES.get(code)
    if known is None:
        return {"id": code}
    return {"id": code, "shortDescription": {"text": known.title}, "defaultConfiguration": {"level": known.severity}}


def _result(problem: Problem, codes: Sequence[str]) -> dict[str, Any]:
    return {
        "ruleId": problem.code,
        "ruleIndex": codes.index(problem.code),
        "level": problem.severity,
        "message": {"text": sentence(problem)},
        "locations": [_location(problem)],
        "partialFingerprints": {"gwctl/v1": fingerprint(problem)},
    }


def _location(problem: Problem) -> dict[str, Any]:
    named = {"logicalLocations": [{"fullyQualifiedName": dotted(problem.path)}]} if problem.path else {}
    place = problem.place
    if place is None:
        return named
    region = {"startLine": place.line, "startColumn": place.column}
    return {"physicalLocation": {"artifactLocation": {"uri": quote(place.file)}, "region": region}, **named}


def _version() -> str:
    try:
        return version("tollhouse")
    except PackageNotFoundError:
        return "0.0.0"
