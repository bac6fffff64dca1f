"""Documents made to hurt: each is refused in about a second, and told which limit it meets (goal R36)."""

import time

import pytest

from gateway.problems import Problem
from gateway.read import load, load_bytes
from gateway.source import read

LONGEST = 3.0  # seconds of this process's own time; about a third of it on a quiet machine
LAUGHS = "version: 1\na: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
BOMBS = {
    "alias bomb": (LAUGHS, "GW005", "10,000"),
    "nested too deep": ("version: 1\nlabels: " + "[" * 3000, "GW004", "64"),
    "nested mappings": ("version: 1\nlabels: " + "{a: " * 3000, "GW004", "64"),
    "duplicate key": ("version: 1\nupstreams: {}\nupstreams: {}\n", "GW102", "line 2"),
    "a number without end": ("version: 1\nlisteners: {a: {port: " + "9" * 200_000 + "}}", "GW009", ""),
    "too many parts": ("version: 1\nlabels:\n" + "".join(f"  k{n}: a\n" for n in range(200_000)), "GW003", "250,000"),
    "too many names": ("version: 1\nupstreams:\n" + "".join(f"  u{n}: {{}}\n" for n in range(50_000)), "GW014", "100"),
    "a body of ten megabytes": ("version: 1\n" + "# nothing\n" * 1_000_000, "GW003", "4,194,304"),
    "a million routes": ("version: 1\nmodules: {m: {routes: {" + "r: {}, " * 1_000_000 + "}}}", "GW003", "4,194,304"),
    "NUL": ("version: 1\nlabels: {a: 'x\0y'}\n", "GW008", "U+0000"),
    "NUL, escaped": ('version: 1\nlabels: {a: "x\\0y"}\n', "GW008", "U+0000"),
    "a tag": ("version: 1\nlabels: !!python/object/apply:os.system [id]\n", "GW010", "python"),
    "a field without a value": ("version: 1\nlisteners: {http: {port: }}\n", "GW111", "port"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_with_the_limit_it_meets(name: str) -> None:
    text, code, limit = BOMBS[name]
    began = time.process_time()
    problems = load([("bomb.yaml", text)]).problems
    assert time.process_time() - began < LONGEST
    found = [problem for problem in problems if problem.code == code]
    assert found, problems
    assert limit in said(found[0])
    assert found[0].severity == "error"
    assert found[0].place is not None


@pytest.mark.parametrize("value", [r'"a\r\nx-admin: 1"', r'"a\nb"', r'"a\0b"'])
def test_a_header_value_holds_no_line_break(value: str) -> None:
    text = f"version: 1\ndefaults: {{response_headers: {{set: {{x-a: {value}}}}}}}\n"
    found = load([("a.yaml", text)]).problems
    assert {problem.code for problem in found} <= {"GW105", "GW008"}
    assert found[0].place is not None


@pytest.mark.parametrize(("text", "value"), [("on", "on"), ("12:30:45", "12:30:45"), ("2026-01-01", "2026-01-01")])
def test_what_yaml_1_1_reads_otherwise_is_text_and_pointed_out(text: str, value: str) -> None:
    source, problems = read("a.yaml", f"labels: {{a: {text}}}\n")
    assert source.values["labels"]["a"] == value
    assert [problem.code for problem in problems] == ["GW011"]


def test_a_version_that_looks_like_a_number_is_not_taken_for_text() -> None:
    problems = load([("a.yaml", "version: 1\nlabels: {release: 1.10}\n")]).problems
    assert [problem.code for problem in problems] == ["GW104"]


def test_bytes_that_are_no_text_are_refused() -> None:
    assert [p.code for p in load_bytes([("a.yaml", b"version: 1\nowner: \xff\n")]).problems] == ["GW002"]


def said(problem: Problem) -> str:
    return f"{problem.message} {problem.help}"
