"""JUnit XML: a suite for each file; a failed case for each error, a passed one for each warning or clean file."""

import re
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree

from gateway.problems import Problem
from gwctl.reports.wording import NOWHERE, sentence

_NO_CHARACTERS: Final = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def report(problems: Sequence[Problem], files: Sequence[str]) -> str:
    root = ElementTree.Element("testsuites", name="gwctl validate")
    names = dict.fromkeys((*files, *(_file(problem) for problem in problems)))
    for name in names:
        _add_suite(root, name, [problem for problem in problems if _file(problem) == name])
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _file(problem: Problem) -> str:
    return problem.place.file if problem.place else NOWHERE


def _add_suite(root: ElementTree.Element, name: str, problems: Sequence[Problem]) -> None:
    failures = sum(problem.severity == "error" for problem in problems)
    counts = {"tests": str(max(1, len(problems))), "failures": str(failures), "errors": "0"}
    suite = ElementTree.SubElement(root, "testsuite", {"name": plain(name), **counts})
    for problem in problems:
        _add_case(suite, problem)
    if not problems:
        ElementTree.SubElement(suite, "testcase", {"classname": plain(name), "name": "valid"})


def _add_case(suite: ElementTree.Element, problem: Problem) -> None:
    at = str(problem.place) if problem.place else NOWHERE
    line = {"line": str(problem.place.line)} if problem.place else {}
    name = plain(f"{problem.code} {problem.message}")
    about = {"classname": plain(at), "name": name, "file": plain(_file(problem)), **line}
    case = ElementTree.SubElement(suite, "testcase", about)
    if problem.severity == "error":
        told = ElementTree.SubElement(case, "failure", {"type": problem.code, "message": plain(problem.message)})
    else:
        told = ElementTree.SubElement(case, "system-out")
    told.text = plain(f"{at}: {problem.severity}[{problem.code}] {sentence(problem)}")


def plain(text: str) -> str:
    """XML 1.0 has no words for most control characters, nor for lone surrogates (section 2.2, `Char`)."""
    return _NO_CHARACTERS.sub("?", text)
