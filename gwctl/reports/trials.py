"""JUnit XML of `gwctl test`: a suite for each file of tests, a case for each test."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from gwctl.reports.junit import plain


def report(cases: Sequence[Mapping[str, Any]]) -> str:
    """`cases`: as in the document of `gwctl test -o json`."""
    root = ElementTree.Element("testsuites", name="gwctl test")
    for name in dict.fromkeys(case["file"] for case in cases):
        _add_suite(root, name, [case for case in cases if case["file"] == name])
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_suite(root: ElementTree.Element, name: str, cases: Sequence[Mapping[str, Any]]) -> None:
    failures = sum(not case["passed"] for case in cases)
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": "0"}
    suite = ElementTree.SubElement(root, "testsuite", {"name": plain(name), **counts})
    for case in cases:
        about = {"classname": plain(name), "name": plain(case["name"]), "file": plain(name), "line": str(case["line"])}
        made = ElementTree.SubElement(suite, "testcase", about)
        lines = [*case["failures"], *(f"Envoy disagrees: {line}" for line in case["disagreements"])]
        if lines:
            kind = "disagreement" if case["disagreements"] else "expectation"
            told = ElementTree.SubElement(made, "failure", {"type": kind, "message": plain(lines[0])})
            told.text = plain("\n".join(lines))
        elif case["note"]:
            ElementTree.SubElement(made, "system-out").text = plain(case["note"])
