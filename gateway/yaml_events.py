"""A document built from libyaml's events: values, positions and problems, one event at a time and nothing recursive."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import yaml

from gateway.problems import Path, Place, Position, Problem, dotted
from gateway.yaml_scalars import NumberError, ambiguity, resolve

MAX_EVENTS: Final = 250_000
MAX_ALIASED_EVENTS: Final = 10_000
MAX_DEPTH: Final = 64
MAX_PROBLEMS: Final = 100

_REFUSED: Final = object()
"""In place of the value of a scalar that has become a problem."""


class Stop(Exception):  # noqa: N818 - not an error: reading ends here, and `problem` says why
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class _Frame:
    """A mapping or list being filled. `key` waits for its value; `skip`: the value is read and thrown away."""

    value: dict[str, Any] | list[Any]
    path: Path
    is_list: bool
    anchor: str | None
    since: int
    key: str | None = None
    skip: bool = False
    height: int = 0


@dataclass(frozen=True, slots=True)
class _Anchored:
    """What an anchor names: its value, the events it stands for with aliases expanded, and how deep it goes."""

    value: Any
    events: int
    height: int


@dataclass(slots=True)
class Builder:
    """Takes events in order. `root` is the document's value; Stop is raised where reading cannot go on."""

    file: str
    root: Any = None
    positions: dict[Path, Position] = field(default_factory=dict)
    value_positions: dict[Path, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _stack: list[_Frame] = field(default_factory=list)
    _anchors: dict[str, _Anchored | None] = field(default_factory=dict)
    _documents: int = 0
    _events: int = 0
    _aliased: int = 0

    def take(self, event: Any) -> None:
        self._events += 1
        if self._events > MAX_EVENTS:
            self._stop("GW003", event, f"the file has more than {MAX_EVENTS:,} parts", "split it into several files")
        _HANDLERS[type(event)](self, event)

    # ------------------------------------------------------------------------------------------------- structure
    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            self._stop("GW007", event, "the file holds more than one document", "one file, one document: no `---`")

    def _ignore(self, event: Any) -> None:
        """Where the stream and the document begin and end says nothing more."""

    def _mapping(self, event: Any) -> None:
        self._open(event, {}, is_list=False)

    def _list(self, event: Any) -> None:
        self._open(event, [], is_list=True)

    def _open(self, event: Any, container: dict[str, Any] | list[Any], *, is_list: bool) -> None:
        if self._awaits_key():
            self._stop_at_key(event)
        if len(self._stack) >= MAX_DEPTH:
            self._stop("GW004", event, f"nested deeper than {MAX_DEPTH} levels")
        if event.tag is not None:
            self._refuse_tag(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        path = self._enter(event)
        self._put(container)
        self._stack.append(_Frame(container, path, is_list, event.anchor, self._events))

    def _close(self, _event: Any) -> None:
        frame = self._stack.pop()
        height = frame.height + 1
        if frame.anchor is not None:
            self._anchors[frame.anchor] = _Anchored(frame.value, self._events - frame.since + 1, height)
        if self._stack:
            parent = self._stack[-1]
            parent.height = max(parent.height, height)

    def _alias(self, event: Any) -> None:
        if self._awaits_key():
            self._stop_at_key(event)
        anchored = self._anchors.get(event.anchor)
        if anchored is None:
            what = "refers to itself" if event.anchor in self._anchors else "has no anchor"
            self._stop("GW005", event, f"the alias *{event.anchor} {what}")
        self._aliased += anchored.events
        self._events += anchored.events  # so that an anchor around this alias weighs all that it stands for
        if self._aliased > MAX_ALIASED_EVENTS:
            message = f"aliases expand to more than {MAX_ALIASED_EVENTS:,} parts"
            self._stop("GW005", event, message, "write shared values in `defaults`")
        if len(self._stack) + anchored.height > MAX_DEPTH:
            self._stop("GW004", event, f"nested deeper than {MAX_DEPTH} levels")
        path = self._enter(event)
        if isinstance(anchored.value, dict):  # objects by alias: each is "at" the alias
            for key in anchored.value:
                self.positions.setdefault((*path, key), _position(event))
        if self._stack:
            parent = self._stack[-1]
            parent.height = max(parent.height, anchored.height)
        self._put(anchored.value)

    # --------------------------------------------------------------------------------------------------- entries
    def _awaits_key(self) -> bool:
        if not self._stack:
            return False
        frame = self._stack[-1]
        return frame.key is None and not frame.is_list

    def _enter(self, event: Any) -> Path:
        """The path of the value that starts here; a list's item gets its position."""
        if not self._stack:
            return ()
        frame = self._stack[-1]
        if frame.is_list:
            path = (*frame.path, len(frame.value))
            self.positions.setdefault(path, _position(event))
            return path
        return (*frame.path, frame.key or "")

    def _put(self, value: Any) -> None:
        if not self._stack:
            self.root = value
            return
        frame = self._stack[-1]
        if isinstance(frame.value, list):
            frame.value.append(value)
            return
        if not frame.skip:
            frame.value[frame.key or ""] = value
        frame.key = None

    def _key(self, event: Any) -> None:
        frame = self._stack[-1]
        key: str = event.value
        path = (*frame.path, key)
        frame.key = key
        frame.skip = True  # what a refused or second key holds is left out, so that nothing follows from it
        if not self._is_text(event, path):
            return
        if key in frame.value:
            self._duplicate(event, path)
            return
        frame.skip = False
        self.positions.setdefault(path, _position(event))
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(key, 1, 0)

    def _duplicate(self, event: Any, path: Path) -> None:
        first = self.positions.get(path)
        where = f", first defined at line {first[0]}" if first else ""
        self._problem("GW102", event, f"duplicate key {_shown(event.value)}{where}", path=path)

    def _is_text(self, event: Any, path: Path) -> bool:
        """Whether a key is text for YAML 1.2; what else it is becomes a problem."""
        if event.value == "<<" and event.implicit[0]:
            message = "merge keys (<<) are not supported"
            self._problem("GW013", event, message, "write shared values in `defaults`", path=path)
            return False
        value = self._value(event, path)
        if isinstance(value, str) or value is _REFUSED:
            return value is not _REFUSED
        self._problem("GW006", event, f"the key {_shown(event.value)} is not text", _quotes(event.value), path=path)
        return False

    # ---------------------------------------------------------------------------------------------------- values
    def _scalar(self, event: Any) -> None:
        if self._awaits_key():
            self._key(event)
            return
        path = self._enter(event)
        value = self._value(event, path)
        if value is None and path:
            self._problem("GW111", event, f"{dotted(path)} has no value", "write one, or remove the key", path=path)
        elif value is _REFUSED:
            value = None
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(value, 1, 0)
        if self._stack and not self._stack[-1].is_list and not self._stack[-1].skip:
            self.value_positions.setdefault(path, _position(event))
        self._put(value)

    def _value(self, event: Any, path: Path) -> Any:
        text: str = event.value
        if "\0" in text:
            self._problem("GW008", event, "the character U+0000 may not be in a document", path=path)
            return _REFUSED
        if event.tag is not None:
            self._refuse_tag(event)
            return text
        if not event.implicit[0]:
            return text
        try:
            value = resolve(text)
        except NumberError as error:
            self._problem("GW009", event, str(error), "put quotes around it if it is text", path=path)
            return _REFUSED
        other = ambiguity(text)
        if other is not None:
            message = f"YAML 1.1 reads {_shown(text)} as {other}; here it is read as by YAML 1.2"
            self._problem("GW011", event, message, _quotes(text), path=path, warning=True)
        return value

    def _refuse_tag(self, event: Any) -> None:
        self._problem("GW010", event, f"the tag {_shown(event.tag)} is not allowed", "write the value without a tag")

    # -------------------------------------------------------------------------------------------------- problems
    def _problem(
        self, code: str, event: Any, message: str, help_: str = "", *, path: Path = (), warning: bool = False
    ) -> None:
        place = Place(self.file, *_position(event))
        severity: Any = "warning" if warning else "error"
        self.problems.append(Problem(code, path, message, help_, severity, place))
        if len(self.problems) >= MAX_PROBLEMS:
            self._stop("GW014", event, f"{MAX_PROBLEMS} problems: reading stops here")

    def _stop_at_key(self, event: Any) -> NoReturn:
        self._stop("GW006", event, "a key must be text", "write the key as a plain word")

    def _stop(self, code: str, event: Any, message: str, help_: str = "") -> NoReturn:
        raise Stop(Problem(code, (), message, help_, place=Place(self.file, *_position(event))))


def _position(event: Any) -> Position:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


def _shown(text: str) -> str:
    return f"'{text}'" if len(text) <= 60 else f"'{text[:57]}...'"


def _quotes(text: str) -> str:
    return f"put quotes around it if it is text: '{text}'" if len(text) <= 40 else "put quotes around it"


_HANDLERS: Final[dict[type, Callable[[Builder, Any], None]]] = {
    yaml.StreamStartEvent: Builder._ignore,
    yaml.StreamEndEvent: Builder._ignore,
    yaml.DocumentStartEvent: Builder._document,
    yaml.DocumentEndEvent: Builder._ignore,
    yaml.MappingStartEvent: Builder._mapping,
    yaml.SequenceStartEvent: Builder._list,
    yaml.MappingEndEvent: Builder._close,
    yaml.SequenceEndEvent: Builder._close,
    yaml.ScalarEvent: Builder._scalar,
    yaml.AliasEvent: Builder._alias,
}
