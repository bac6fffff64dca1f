"""Text to values and positions: YAML 1.2's core schema over libyaml's events, with a limit on everything.

The parser's events are read one by one into plain values (`yaml_events`), so that nothing is ever larger or deeper than
the limits there, whatever the text is: no recursion, no alias bombs, no surprise types. What YAML 1.1 and 1.2 read
differently (`on`, `1:30`, dates, `010`) is read as 1.2 does and pointed out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

import yaml

from gateway.comments import Ignore, ignores
from gateway.problems import Path, Place, Position, Problem
from gateway.yaml_events import MAX_DEPTH, Builder, Stop

MAX_CHARACTERS: Final = 4 * 1024 * 1024
_LINE_BREAK: Final = re.compile(r"\r\n|\r|\n")
LINE_BREAKS_OF_YAML_1_1: Final = "\x85\u2028\u2029"


@dataclass(frozen=True)
class Source:
    """One file as values (JSON-like) with the place of every part.

    `positions` has the key of a mapping's entry or the item of a list, `value_positions` the scalar an entry holds.
    `complete` is false when reading stopped early: what is missing then says nothing.
    """

    file: str
    text: str
    values: dict[str, Any]
    positions: Mapping[Path, Position]
    value_positions: Mapping[Path, Position]
    complete: bool = True

    @cached_property
    def secret_lines(self) -> frozenset[int]:
        """The numbers of lines where somebody may have written a key itself: what is under `jwks`, to where it ends."""
        starts = sorted((line, "jwks" in path) for path, (line, _) in self.positions.items())
        starts.append((len(self.lines) + 1, False))
        spans = (range(line, max(line + 1, end)) for (line, secret), (end, _) in pairwise(starts) if secret)
        return frozenset(number for span in spans for number in span)

    @cached_property
    def comments(self) -> tuple[Ignore, ...]:
        """What its comments say to the checks."""
        return tuple(ignores(self.lines))

    @cached_property
    def ignored(self) -> frozenset[tuple[int, str]]:
        """The lines and codes of the warnings that its comments accept."""
        return frozenset((comment.line, code) for comment in self.comments for code in comment.codes)

    @cached_property
    def lines(self) -> list[str]:
        """The text's lines, without their breaks."""
        return _LINE_BREAK.split(self.text)


def read_bytes(file: str, data: bytes) -> tuple[Source, list[Problem]]:
    """`read` for what comes from a file: UTF-8 (a byte order mark is allowed) and nothing else."""
    try:
        return read(file, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        place = Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        problem = Problem("GW002", (), "the file is not UTF-8", "save it as UTF-8", place=place)
        return _empty(file, data.decode("utf-8", "replace")), [problem]


def read(file: str, text: str) -> tuple[Source, list[Problem]]:
    """Never raises. With an error among the problems the source holds what could be read before it."""
    refused = _refused_text(file, text)
    if refused is not None:
        return _empty(file, text), [refused]
    builder = Builder(file)
    complete = True
    try:
        parser = yaml.CSafeLoader(text)
        while (event := parser.get_event()) is not None:
            builder.take(event)
    except Stop as stop:
        builder.problems.append(stop.problem)
        complete = False
    except yaml.YAMLError as error:
        builder.problems.append(_syntax_problem(file, text, error))
        complete = False
    if complete and not isinstance(builder.root, dict):
        builder.problems.append(_no_mapping(file, builder.root))
        complete = False
    values = builder.root if isinstance(builder.root, dict) else {}
    source = Source(
        file,
        text,
        values,
        MappingProxyType(builder.positions),
        MappingProxyType(builder.value_positions),
        complete,
    )
    return source, builder.problems


def _empty(file: str, text: str) -> Source:
    return Source(file, text, {}, {}, {}, complete=False)


def _no_mapping(file: str, root: Any) -> Problem:
    what = "the document is empty" if root is None else "the document is not a mapping"
    return Problem("GW012", (), what, "start with `version: 1`", place=Place(file, 1, 1))


def _refused_text(file: str, text: str) -> Problem | None:
    """What must not even reach the parser: too much text, and characters that make lines mean different things."""
    if len(text) > MAX_CHARACTERS:
        message = f"the file has {len(text):,} characters, more than {MAX_CHARACTERS:,}"
        return Problem("GW003", (), message, "split it into several files", place=Place(file, 1, 1))
    bad = _first_bad_character(text)
    if bad is None:
        return None
    return _forbidden(file, text, bad)


def _first_bad_character(text: str) -> int | None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # a lone surrogate, from a caller that decoded leniently
        return error.start
    found = [at for at in (text.find(character) for character in "\0" + LINE_BREAKS_OF_YAML_1_1) if at >= 0]
    return min(found, default=None)


def _forbidden(file: str, text: str, offset: int) -> Problem:
    message = f"the character U+{ord(text[offset]):04X} may not be in a document"
    return Problem("GW008", (), message, place=_place(file, text, offset))


def _place(file: str, text: str, offset: int) -> Place:
    before = text[:offset].replace("\r\n", "\n").replace("\r", "\n")
    return Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _syntax_problem(file: str, text: str, error: yaml.YAMLError) -> Problem:
    if isinstance(error, yaml.reader.ReaderError):
        # The reader counts bytes of UTF-8; it stops at the first character that YAML does not allow.
        offset = min(len(text.encode()[: error.position].decode("utf-8", "ignore")), len(text) - 1)
        return _forbidden(file, text, offset)
    what = getattr(error, "problem", None) or "the text is not YAML"
    context = getattr(error, "context", None)
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if "end of stream" in what:  # what was never closed began there
        mark = getattr(error, "context_mark", None) or mark
    if "maximum nesting depth" in what:  # libyaml's own limit, where it has to look far ahead
        return Problem("GW004", (), f"nested deeper than {MAX_DEPTH} levels", place=_marked(file, mark))
    message = f"not YAML: {what}" + (f" ({context})" if context else "")
    return Problem("GW001", (), message, _syntax_help(text, mark, what), place=_marked(file, mark))


def _marked(file: str, mark: Any) -> Place:
    return Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)


def _syntax_help(text: str, mark: Any, what: str) -> str:
    line = text[: mark.index].rsplit("\n", 1)[-1] + text[mark.index :].split("\n", 1)[0] if mark else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or ("cannot start any token" in what and "\t" in line):
        return "indent with spaces: YAML does not allow tabs there"
    if "mapping values are not allowed" in what:
        return "put quotes around a value that contains `: `"
    return ""
