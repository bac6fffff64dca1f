"""Text to values and positions: YAML 1.2's core schema over libyaml's events, with a limit on everything.

The parser's events are read one by one into plain values, so that nothing is ever larger or deeper than the limits
below, whatever the text is: no recursion, no alias bombs, no surprise types. What YAML 1.1 and 1.2 read differently
(`on`, `1:30`, dates, `010`) is read as 1.2 does and pointed out.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NoReturn

import yaml

from gateway.problems import Path, Place, Position, Problem
from gateway.yaml_scalars import NumberError, ambiguity, resolve

MAX_CHARACTERS: Final = 4 * 1024 * 1024
MAX_NODES: Final = 600_000
MAX_ALIASED_NODES: Final = 10_000
MAX_DEPTH: Final = 64
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
    builder = _Builder(file)
    complete = True
    try:
        for event in _events(text):
            builder.take(event)
    except _Stop as stop:
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


def _events(text: str) -> Iterator[Any]:
    parsed: Iterator[Any] = yaml.parse(text, Loader=yaml.CSafeLoader)
    return parsed


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
    message = f"not YAML: {what}" + (f" ({context})" if context else "")
    place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
    return Problem("GW001", (), message, _syntax_help(text, mark, what), place=place)


def _syntax_help(text: str, mark: Any, what: str) -> str:
    line = text[: mark.index].rsplit("\n", 1)[-1] + text[mark.index :].split("\n", 1)[0] if mark else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or ("cannot start any token" in what and "\t" in line):
        return "indent with spaces: YAML does not allow tabs there"
    if "mapping values are not allowed" in what:
        return "put quotes around a value that contains `: `"
    return ""


class _Stop(Exception):  # noqa: N818 - not an error: the problem it carries is
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class _Frame:
    """A mapping or list being filled. `key` waits for its value; `skip`: the value is read and thrown away."""

    value: dict[str, Any] | list[Any]
    path: Path
    anchor: str | None
    nodes_before: int
    key: str | None = None
    skip: bool = False
    height: int = 0


@dataclass(slots=True)
class _Anchored:
    value: Any
    nodes: int
    height: int


@dataclass(slots=True)
class _Builder:
    file: str
    root: Any = None
    positions: dict[Path, Position] = field(default_factory=dict)
    value_positions: dict[Path, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    stack: list[_Frame] = field(default_factory=list)
    anchors: dict[str, _Anchored | None] = field(default_factory=dict)
    documents: int = 0
    nodes: int = 0
    aliased: int = 0

    def take(self, event: Any) -> None:
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    # ------------------------------------------------------------------------------------------------- structure
    def document(self, event: Any) -> None:
        self.documents += 1
        if self.documents > 1:
            self.stop(
                "GW007", event, "the file holds more than one document", "one file is one document: remove the `---`"
            )

    def start(self, event: Any) -> None:
        container: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.count(event)
        self.refuse_tag(event)
        if self.awaits_key():
            self.stop("GW006", event, "a key must be text", "write the key as a plain word")
        if len(self.stack) >= MAX_DEPTH:
            self.stop("GW004", event, f"nested deeper than {MAX_DEPTH} levels")
        if event.anchor:
            self.anchors[event.anchor] = None
        path = self.enter(event)
        self.put(container)
        self.stack.append(_Frame(container, path, event.anchor, self.nodes))

    def end(self, _event: Any) -> None:
        frame = self.stack.pop()
        if frame.anchor:
            self.anchors[frame.anchor] = _Anchored(frame.value, self.nodes - frame.nodes_before + 1, frame.height + 1)
        self.raise_height(frame.height + 1)

    def scalar(self, event: Any) -> None:
        self.count(event)
        if self.awaits_key():
            self.take_key(event)
            return
        path = self.enter(event)
        value = self.value_of(event, path)
        if path and isinstance(path[-1], str):
            self.value_positions.setdefault(path, _position(event))
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(value, 1, 0)
        self.put(value)

    def alias(self, event: Any) -> None:
        anchored = self.anchors.get(event.anchor)
        if self.awaits_key():
            self.stop("GW006", event, "a key must be text", "write the key as a plain word")
        if anchored is None:
            what = "refers to itself" if event.anchor in self.anchors else "has no anchor"
            self.stop("GW005", event, f"the alias *{event.anchor} {what}")
        self.aliased += anchored.nodes
        if self.aliased > MAX_ALIASED_NODES:
            self.stop(
                "GW005",
                event,
                f"aliases expand to more than {MAX_ALIASED_NODES:,} values",
                "write shared values in `defaults`",
            )
        if len(self.stack) + anchored.height > MAX_DEPTH:
            self.stop("GW004", event, f"nested deeper than {MAX_DEPTH} levels")
        self.enter(event)
        self.raise_height(anchored.height)
        self.put(anchored.value)

    # -------------------------------------------------------------------------------------------------- entries
    def awaits_key(self) -> bool:
        return bool(self.stack) and self.stack[-1].key is None and isinstance(self.stack[-1].value, dict)

    def take_key(self, event: Any) -> None:
        frame = self.stack[-1]
        frame.key = event.value
        frame.skip = False
        path = (*frame.path, event.value)
        if self.refused_key(event, path):
            frame.skip = True
        elif event.value in frame.value:
            frame.skip = True
            self.duplicate(event, path)
        else:
            self.positions.setdefault(path, _position(event))

    def refused_key(self, event: Any, path: Path) -> bool:
        """Whether the key is something other than text; what it holds is then left out, so nothing follows from it."""
        if "\0" in event.value:
            self.problem("GW008", event, "the character U+0000 may not be in a document", path=path)
            return True
        if not event.implicit[0] or event.tag is not None:
            return self.refuse_tag(event)
        if event.value == "<<":
            self.problem(
                "GW013", event, "merge keys (<<) are not supported", "write shared values in `defaults`", path=path
            )
            return True
        try:
            text = isinstance(resolve(event.value), str)
        except NumberError:
            text = False
        if not text:
            help_ = f"put quotes around it: '{event.value}'" if len(event.value) < 40 else "put quotes around it"
            self.problem("GW006", event, f"the key {_shown(event.value)} is not text", help_, path=path)
        else:
            self.point_out(event, path)
        return not text

    def duplicate(self, event: Any, path: Path) -> None:
        first = self.positions.get(path)
        where = f", first defined at line {first[0]}" if first else ""
        self.problem("GW102", event, f"duplicate key {_shown(event.value)}{where}", path=path)

    def enter(self, event: Any) -> Path:
        """The path of the value that starts here; a list's item gets its position."""
        if not self.stack:
            return ()
        frame = self.stack[-1]
        if isinstance(frame.value, list):
            path = (*frame.path, len(frame.value))
            self.positions.setdefault(path, _position(event))
            return path
        return (*frame.path, frame.key or "")

    def put(self, value: Any) -> None:
        if not self.stack:
            self.root = value
            return
        frame = self.stack[-1]
        if isinstance(frame.value, list):
            frame.value.append(value)
            return
        if not frame.skip:
            frame.value[frame.key or ""] = value
        frame.key = None

    def raise_height(self, height: int) -> None:
        if self.stack:
            self.stack[-1].height = max(self.stack[-1].height, height)

    # --------------------------------------------------------------------------------------------------- values
    def value_of(self, event: Any, path: Path) -> Any:
        text: str = event.value
        if "\0" in text:
            self.problem("GW008", event, "the character U+0000 may not be in a document", path=path)
            return text.replace("\0", "")
        if not event.implicit[0] or event.tag is not None:
            self.refuse_tag(event)
            return text
        try:
            value = resolve(text)
        except NumberError as error:
            self.problem("GW009", event, str(error), "put quotes around it if it is text", path=path)
            return None
        self.point_out(event, path)
        return value

    def refuse_tag(self, event: Any) -> bool:
        if event.tag is None:
            return False
        self.problem("GW010", event, f"the tag {_shown(event.tag)} is not allowed", "write the value without a tag")
        return True

    def point_out(self, event: Any, path: Path) -> None:
        other = ambiguity(event.value)
        if other:
            self.problem(
                "GW011",
                event,
                f"{_shown(event.value)} is read as {other} by YAML 1.1 and otherwise by YAML 1.2, which is used here",
                f"put quotes around it if it is text: '{event.value}'",
                path=path,
                warning=True,
            )

    def count(self, event: Any) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.stop("GW003", event, f"the file has more than {MAX_NODES:,} values", "split it into several files")

    # -------------------------------------------------------------------------------------------------- problems
    def problem(
        self, code: str, event: Any, message: str, help_: str = "", *, path: Path = (), warning: bool = False
    ) -> None:
        place = Place(self.file, *_position(event))
        severity: Any = "warning" if warning else "error"
        self.problems.append(Problem(code, path, message, help_, severity, place))

    def stop(self, code: str, event: Any, message: str, help_: str = "") -> NoReturn:
        raise _Stop(Problem(code, (), message, help_, place=Place(self.file, *_position(event))))


def _position(event: Any) -> Position:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


def _shown(text: str) -> str:
    return f"'{text}'" if len(text) <= 60 else f"'{text[:57]}...'"


_HANDLERS: Final[dict[type, Callable[[_Builder, Any], None]]] = {
    yaml.DocumentStartEvent: _Builder.document,
    yaml.MappingStartEvent: _Builder.start,
    yaml.SequenceStartEvent: _Builder.start,
    yaml.MappingEndEvent: _Builder.end,
    yaml.SequenceEndEvent: _Builder.end,
    yaml.ScalarEvent: _Builder.scalar,
    yaml.AliasEvent: _Builder.alias,
}
