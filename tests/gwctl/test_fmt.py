"""`gwctl fmt`: one form for what means the same, comments where they were, nothing written that was not read."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import source
from gateway.model import decode
from gwctl.exits import Exit
from gwctl.formatting import Changed, Unreadable, canonical, dump
from gwctl.main import run

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = sorted(
    [*(ROOT / "tests/compiler/cases").glob("*/in.yaml"), *(ROOT / "examples/100x-platform").rglob("*.yaml")]
)

UNTIDY = """\
# yaml-language-server: $schema=x

# about modules
modules:
    # about m
    m:
        routes:
            b:
                # the backends
                backends:
                - weight: 3   # w
                  # up
                  upstream: u
                # matches
                match:
                    path: {prefix: /b}   # trailing

            a: {respond: {body: "x # no", status: 200}, match: {methods: [GET], path: {exact: /a}}}
        listener: http
        # a tier
        tier: free

# the version
version: 1
tiers:
    zz: {unlimited: true}
    free:  {unlimited: true}
# end
"""
TIDY = """\
# yaml-language-server: $schema=x

# the version
version: 1
tiers:
  zz: {unlimited: true}
  free: {unlimited: true}
# about modules
modules:
  # about m
  m:
    # a tier
    tier: free
    listener: http
    routes:
      b:
        # matches
        match:
          path: {prefix: /b}             # trailing

        # the backends
        backends:
          # up
          - upstream: u
            weight: 3         # w
      a: {match: {path: {exact: /a}, methods: [GET]}, respond: {status: 200, body: "x # no"}}
# end
"""


def test_an_untidy_document() -> None:
    made = canonical("x", UNTIDY)
    without_blanks = [line.rstrip() for line in made.splitlines() if line.strip()]
    assert without_blanks == [line for line in TIDY.splitlines() if line.strip()]
    assert list(source.read("x", made)[0].values["tiers"]) == ["zz", "free"], "the order of tiers is their rank"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: "/".join(path.parts[-2:]))
def test_twice_is_once_and_the_meaning_stays(path: Path) -> None:
    text = path.read_text()
    made = canonical(path.name, text)
    assert canonical(path.name, made) == made
    before, after = source.read("x", text)[0].values, source.read("x", made)[0].values
    assert before == after
    comments = [line[line.index("#") :].strip() for line in text.splitlines() if line.strip().startswith("#")]
    kept = [line[line.index("#") :].strip() for line in made.splitlines() if line.strip().startswith("#")]
    assert sorted(comments) == sorted(kept)


KEYS = st.sampled_from(["tier", "listener", "hosts", "description", "authentication", "routes"])
ROUTE = "r: {respond: {body: ok, status: 200}, match: {path: {exact: /}}}"
VALUES = {
    "tier": ["tier: free"],
    "listener": ["listener: http  # here"],
    "hosts": ["# hosts", "hosts:", "- a.example.com", "- b.example.com   # b"],
    "description": ["description: >-", "  some text", "  # not a comment", ""],
    "authentication": ["", "authentication: none"],
    "routes": ["routes:", "  # the route", f"  {ROUTE}"],
}


@settings(max_examples=60, deadline=None)
@given(st.lists(KEYS, unique=True, min_size=6, max_size=6), st.sampled_from([2, 3, 4]))
def test_any_order_becomes_one(order: list[str], indent: int) -> None:
    pad = " " * indent
    lines = [f"{pad * 2}{line}" if line else "" for key in order for line in VALUES[key]]
    head = f"version: 1\nlisteners: {{http: {{port: 80}}}}\ntiers: {{free: {{unlimited: true}}}}\nmodules:\n{pad}m:\n"
    text = head + "\n".join(lines) + "\n"
    made = canonical("x", text)
    assert canonical("x", made) == made
    read, again = source.read("x", text)[0].values, source.read("x", made)[0].values
    assert decode(read) == decode(again)
    assert list(again["modules"]["m"]) == ["tier", "listener", "hosts", "description", "authentication", "routes"]
    for comment in ("# here", "# hosts", "# b", "# the route"):
        assert made.count(comment) == 1


def test_an_alias_is_never_before_its_anchor() -> None:
    text = "modules:\n  m: &m {listener: http, tier: free, routes: {}}\n  n: *m\nversion: 1\n"
    assert source.read("x", canonical("x", text))[0].values == source.read("x", text)[0].values


def test_characters_of_more_than_a_byte() -> None:
    text = 'modules: {m: {tier: "é𝄞", listener: "ü", routes: {r: {respond: {body: "…", status: 200}}}}}\nversion: 1\n'
    made = canonical("x", text)
    assert source.read("x", made)[0].values == source.read("x", text)[0].values
    assert 'respond: {status: 200, body: "…"}' in made


def test_what_is_no_document_is_refused() -> None:
    for text in ("a: [", "", "- 1", "version: 1\nversion: 1\n", "a: \t- b"):
        with pytest.raises(Unreadable):
            canonical("x", text)


def test_check_shows_the_difference_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(UNTIDY)
    assert run(["fmt", "--check", str(file)]) == Exit.INVALID
    said = capsys.readouterr().out
    assert said.startswith(f"--- {file}\n+++ {file} (formatted)\n")
    assert file.read_text() == UNTIDY
    assert run(["fmt", "--check", "-o", "json", str(file)]) == Exit.INVALID
    capsys.readouterr()
    file.chmod(0o640)
    assert run(["fmt", str(file)]) == 0
    assert file.stat().st_mode & 0o777 == 0o640
    assert run(["fmt", "--check", str(file)]) == 0
    assert [one.name for one in tmp_path.iterdir()] == ["routes.yaml"], "no temporary file stays"


def test_one_bad_file_and_none_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(UNTIDY)
    (tmp_path / "b.yaml").write_text("modules: [")
    assert run(["fmt", str(tmp_path)]) == Exit.INVALID
    assert (tmp_path / "a.yaml").read_text() == UNTIDY
    assert "b.yaml:2:1: error[GW001]" in capsys.readouterr().err


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(UNTIDY)
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    assert run(["fmt", str(tmp_path / "link.yaml")]) == 0
    assert (tmp_path / "link.yaml").is_symlink()
    assert (tmp_path / "real.yaml").read_text() != UNTIDY


def test_a_document_that_was_in_no_file() -> None:
    document = {
        "version": 1,
        "tiers": {"z": {"unlimited": True}, "a": {"unlimited": True}},
        "labels": {"yes": "no", "n": "1\n"},
    }
    made = dump(document)
    assert source.read("x", made)[0].values == document
    assert list(source.read("x", made)[0].values["tiers"]) == ["z", "a"]
    assert issubclass(Changed, Exception)
