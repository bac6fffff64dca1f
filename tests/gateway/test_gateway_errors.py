"""Broken documents and what is said of them: a folder a case, `in.yaml` (and others) and `problems.txt`.

`TOLLHOUSE_GOLDEN=update pytest tests/gateway/test_gateway_errors.py` writes all `problems.txt` again and removes
folders that have no document.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from gateway import codes, document, read, render, source
from gateway.source import MAX_CHARACTERS

ERRORS: Final = Path(__file__).parent / "errors"
PAGE: Final = Path(__file__).parents[2] / "docs" / "problems.md"
UPDATE: Final = os.environ.get("TOLLHOUSE_GOLDEN") == "update"
CODE: Final = re.compile(r"(error|warning)\[(GW\d{3})\]")


def too_large() -> str:
    return "version: 1\n" + "# nothing\n" * (MAX_CHARACTERS // 10)


def too_many_problems() -> str:
    return "version: 1\n" + "version: 1\n" * 200


GENERATED: Final[dict[str, Callable[[], str]]] = {"too-large": too_large, "too-many-problems": too_many_problems}
"""Cases that are too long to keep: only their last problem is."""


def said_of(case: Path) -> str:
    if case.name in GENERATED:
        loaded = read.load([("in.yaml", GENERATED[case.name]())])
        return render.text([p for p in loaded.problems if p.code in ("GW003", "GW014")], loaded.where)
    files = [file for file in sorted(case.glob("*.yaml")) if file.name != "stored.yaml"]
    loaded = read.load_bytes([(file.name, file.read_bytes()) for file in files])
    text = render.text(loaded.problems, loaded.where)
    stored = case / "stored.yaml"
    if stored.exists():
        current = document.objects_of(source.read(stored.name, stored.read_text())[0])
        text += render.text(document.apply(current, loaded.objects, prune=False).problems, loaded.where)
    return text


def cases() -> list[Path]:
    return sorted(case for case in ERRORS.iterdir() if case.is_dir())


@pytest.fixture(scope="module", autouse=UPDATE)
def _updated() -> None:
    for name in GENERATED:
        (ERRORS / name).mkdir(exist_ok=True)
    for case in cases():
        if case.name in GENERATED or (case / "in.yaml").exists():
            (case / "problems.txt").write_text(said_of(case))
        else:
            shutil.rmtree(case)


@pytest.mark.parametrize("name", [case.name for case in cases()])
def test_a_broken_document_is_told_where_and_what(name: str) -> None:
    assert said_of(ERRORS / name) == (ERRORS / name / "problems.txt").read_text()


def codes_told() -> set[tuple[str, str]]:
    texts = [(case / "problems.txt").read_text() for case in cases()]
    return {(severity, code) for text in texts for severity, code in CODE.findall(text)}


def test_every_code_of_the_registry_has_a_case_and_every_case_a_registered_code() -> None:
    registered = {(code.severity, name) for name, code in codes.CODES.items()}
    assert codes_told() == registered


def test_no_problem_is_told_without_a_place() -> None:
    heads = [line for case in cases() for line in (case / "problems.txt").read_text().splitlines() if CODE.search(line)]
    assert heads
    assert [line for line in heads if not re.match(r"[a-z]+\.yaml:\d+:\d+: ", line)] == []


def test_the_page_of_codes_is_in_step() -> None:
    if UPDATE:
        PAGE.write_text(codes.table())
    assert PAGE.read_text() == codes.table()
