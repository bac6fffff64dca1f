"""Warnings that a comment accepts, and comments that accept nothing."""

from gateway.document import Object
from gateway.places import Where
from gateway.read import load
from gateway.suppress import without_accepted
from xds_server.rollout.stored import from_row, to_row

DOCUMENT = """version: 1
listeners: {http: {port: 8080}}
upstreams:
  spare: {type: static, endpoints: [{address: 127.0.0.1, port: 9000}]}%s
"""


def codes(text: str) -> list[str]:
    return [problem.code for problem in load([("gw.yaml", text)]).problems]


def test_the_warning_is_there_without_a_comment() -> None:
    assert codes(DOCUMENT % "") == ["GW202"]


def test_a_comment_beside_the_line_accepts_it() -> None:
    assert codes(DOCUMENT % "  # gwctl: ignore GW202") == []


def test_a_comment_alone_speaks_of_the_next_line_that_is_none() -> None:
    text = DOCUMENT.replace("  spare:", "  # gwctl: ignore GW202, GW262\n  # kept for the night\n\n  spare:") % ""
    assert codes(text) == ["GW015"]  # of the two codes one is not there


def test_a_comment_elsewhere_accepts_nothing_and_says_so() -> None:
    loaded = load([("gw.yaml", "# gwctl: ignore GW202\n" + DOCUMENT % "")])
    assert [(p.code, str(p.place)) for p in loaded.problems] == [("GW015", "gw.yaml:1:17"), ("GW202", "gw.yaml:5:3")]


def test_a_comment_without_a_code_says_so() -> None:
    assert codes(DOCUMENT % "  # gwctl: ignore everything") == ["GW202", "GW015"]


def test_an_error_cannot_be_ignored() -> None:
    text = DOCUMENT.replace("port: 8080", "prot: 8080") % ""
    text = text.replace("listeners:", "# gwctl: ignore GW101\nlisteners:")
    assert "GW101" in codes(text)


def test_a_hash_in_a_quoted_value_is_no_comment_of_another_line() -> None:
    text = DOCUMENT.replace("version: 1\n", 'version: 1\nlabels: {a: "x # gwctl: ignore GW202"}\n') % ""
    assert "GW202" in codes(text)


def test_what_is_accepted_stays_so_when_only_the_object_is_at_hand() -> None:
    objects = load([("gw.yaml", DOCUMENT % "  # gwctl: ignore GW202")]).objects
    stored = tuple(from_row(to_row(item)) for item in objects)
    assert stored == objects
    assert merged_with(stored) == []
    assert merged_with(load([("gw.yaml", DOCUMENT % "")]).objects) == ["GW202"]


def merged_with(stored: tuple[Object, ...]) -> list[str]:
    """The codes of an apply of another file into a gateway that has these objects."""
    loaded = load([("other.yaml", "version: 1\nowner: other\n")], lambda new: (*stored, *new))
    return [problem.code for problem in loaded.problems]


def test_nothing_is_lost_of_what_is_not_accepted() -> None:
    loaded = load([("gw.yaml", DOCUMENT % "")])
    assert without_accepted(loaded.problems, Where.of(loaded.objects)) == list(loaded.problems)
    assert all(not item.ignored for item in loaded.objects)
