"""The canonical form of a document: keys in the language's order, two spaces a level, comments where they were.

Keys are put in order as text, entry by entry, so that a comment goes with the entry that it stands above or beside;
ruamel.yaml then writes the result with even indentation. What a document means never changes: it is read before and
after, and a difference is refused.
"""

import io
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from gateway.problems import Path, Problem
from gateway.schema import order_of
from gateway.source import read
from gateway.words import models_at
from gateway.yaml_events import MAX_DEPTH

_WIDTH: Final = 1 << 20  # lines are broken where their author broke them
_PASSES: Final = 4
_ONE_LINE: Final = 90


class Unreadable(Exception):  # noqa: N818 - says what is wrong with the text, which is somebody's document
    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("the text cannot be read")
        self.problems = tuple(problems)


class Changed(Exception):  # noqa: N818 - a text that this cannot format without changing what it means
    pass


def canonical(name: str, text: str) -> str:
    """The text in canonical form. Raises Unreadable for what is not a document, Changed rather than change it."""
    source, problems = read(name, text)
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors or not source.complete:
        raise Unreadable(errors)
    made = text.replace("\r\n", "\n").replace("\r", "\n")
    for _ in range(_PASSES):
        before, made = made, _even(_ordered(made))
        if made == before:
            break
    after, _ = read(name, made)
    if not _same(source.values, after.values):
        raise Changed(f"{name} cannot be formatted without changing what it means")
    return made


def dump(document: dict[str, Any]) -> str:
    """A document that is in no file yet, in canonical form."""
    text = yaml.serialize(_laid_out(document), Dumper=_Dumper, allow_unicode=True, width=_WIDTH)
    return canonical("<made>", text)


def _same(one: Any, other: Any) -> bool:
    """Equal in value and type; the order of keys counts where it may (a tier's rank), which maps of names keep."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _even(text: str) -> str:
    from ruamel.yaml import YAML

    writer = YAML()
    writer.preserve_quotes = True
    writer.width = _WIDTH
    writer.brace_single_entry_mapping_in_flow_sequence = True
    writer.indent(mapping=2, sequence=4, offset=2)
    made = io.StringIO()
    writer.dump(writer.load(text), made)
    if not _scalars_on_one_line(text):  # where a `#` or a blank at the end of a line may be part of a value
        return made.getvalue().rstrip("\n") + "\n"
    lines = [line.rstrip() for line in made.getvalue().split("\n")]
    return "\n".join(_comments_moved(text.split("\n"), lines)).rstrip("\n") + "\n"


def _comments_moved(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """A comment that stood as deep as the line below it does so again: ruamel leaves it in its old column."""
    olds, news = _own_lines(before), _own_lines(after)
    made = list(after)
    if len(olds) != len(news):
        return made
    for old, new in zip(olds, news, strict=True):
        below = _below(before, old)
        if below is not None and _depth(before[old]) == _depth(before[below]):
            target = _below(after, new)
            made[new] = " " * (_depth(after[target]) if target is not None else 0) + after[new].lstrip()
    return made


def _own_lines(lines: Sequence[str]) -> list[int]:
    return [number for number, line in enumerate(lines) if _is_comment(line)]


def _below(lines: Sequence[str], at: int) -> int | None:
    """The next line that is not a comment or blank."""
    return next((n for n in range(at + 1, len(lines)) if lines[n].strip() and not _is_comment(lines[n])), None)


def _scalars_on_one_line(text: str) -> bool:
    """Whether blanks at the ends of lines, and lines that begin with `#`, are never part of a value."""
    tokens = yaml.scan(text, Loader=yaml.CSafeLoader)
    return all(t.start_mark.line == t.end_mark.line for t in tokens if isinstance(t, yaml.ScalarToken))


# ------------------------------------------------------------------------------------------------------- order of keys
@dataclass(frozen=True, slots=True)
class _Entry:
    key: str
    node: Any
    value: Any


def _ordered(text: str) -> str:
    """The text with the keys of every mapping in order: the innermost first, from the end, so that marks still hold."""
    for _ in range(MAX_DEPTH):
        lines = text.split("\n")
        for path, mapping in sorted(_unordered(text), key=lambda found: -found[1].start_mark.index):
            (_order_flow if mapping.flow_style else _order_block)(lines, path, mapping)
        made = "\n".join(lines)
        if made == text or not _reads(made):  # an alias would come before its anchor
            break
        text = made
    return text


def _reads(text: str) -> bool:
    _, problems = read("<made>", text)
    return not any(problem.severity == "error" for problem in problems)


def _unordered(text: str) -> list[tuple[Path, Any]]:
    """The mappings whose keys are out of order and that hold no other such mapping."""
    found: list[tuple[Path, Any]] = []
    _collect((), yaml.compose(text, Loader=yaml.CSafeLoader), found)
    return found


def _collect(path: Path, node: Any, found: list[tuple[Path, Any]]) -> None:
    before = len(found)
    if isinstance(node, yaml.MappingNode):
        entries = _entries(node)
        for entry in entries:
            _collect((*path, entry.key), entry.value, found)
        if len(found) == before and len(entries) > 1 and _sorted(path, entries) != entries:
            found.append((path, node))
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _collect((*path, number), item, found)


def _entries(mapping: Any) -> list[_Entry]:
    return [_Entry(str(key.value), key, value) for key, value in mapping.value]


def _sorted(path: Path, entries: list[_Entry]) -> list[_Entry]:
    """In the order of the models that may stand there; keys that they do not have stay behind, in their own order."""
    order = {name: at for at, name in enumerate(order_of(models_at(path)))}
    return sorted(entries, key=lambda entry: order.get(entry.key, len(order))) if order else entries


def _order_flow(lines: list[str], path: Path, mapping: Any) -> None:
    """`{b: 1, a: 2}`: each entry's text goes to the place of another one."""
    first, last = mapping.start_mark.line, mapping.end_mark.line + 1
    base = mapping.start_mark.index - mapping.start_mark.column
    text = "\n".join(lines[first:last])
    entries = _entries(mapping)
    spans = [(entry.node.start_mark.index - base, entry.value.end_mark.index - base) for entry in entries]
    moved = {id(entry): text[start:end] for entry, (start, end) in zip(entries, spans, strict=True)}
    made, done = [], 0
    for (start, end), entry in zip(spans, _sorted(path, entries), strict=True):
        made += [text[done:start], moved[id(entry)]]
        done = end
    lines[first:last] = ("".join(made) + text[done:]).split("\n")


def _order_block(lines: list[str], path: Path, mapping: Any) -> None:
    """Whole lines move, with the comments and blank lines above them."""
    entries = _entries(mapping)
    first, column = entries[0].node.start_mark.line, entries[0].node.start_mark.column
    starts = [_first_line(lines, entry.node.start_mark.line, column) for entry in entries]
    starts[0] = _after_heading(lines, starts[0], first) if not path else _own_comments(lines, first, column)
    stop = _end(lines, entries[-1].node.start_mark.line, column)
    prefix = lines[first][:column]
    lines[first] = " " * column + lines[first][column:]
    bounds = [*starts, stop]
    chunks = {id(entry): lines[bounds[n] : bounds[n + 1]] for n, entry in enumerate(entries)}
    moved = [chunks[id(entry)] for entry in _sorted(path, entries)]
    while moved[0] and not moved[0][0].strip():
        moved[0] = moved[0][1:]
    body = [line for chunk in moved for line in chunk]
    lines[starts[0] : stop] = _with_dash(body, prefix) if prefix.strip() else body


def _with_dash(body: list[str], prefix: str) -> list[str]:
    """The first entry of a list's item gets the dash; comments that now come before it go above the dash."""
    at = next(n for n, line in enumerate(body) if not _is_comment(line) and line.strip())
    dash = len(prefix) - len(prefix.lstrip())
    above = [" " * dash + line.lstrip() for line in body[:at]]
    return [*above, prefix + body[at][len(prefix) :], *body[at + 1 :]]


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _first_line(lines: Sequence[str], line: int, column: int) -> int:
    """Where an entry begins: at the comments above it that stand no deeper than it, and the blank lines above those."""
    at = line
    while at > 0 and _is_comment(lines[at - 1]) and _depth(lines[at - 1]) <= column:
        at -= 1
    while at > 0 and not lines[at - 1].strip():
        at -= 1
    return at


def _after_heading(lines: Sequence[str], lead: int, first: int) -> int:
    """What a file begins with stays on top: everything down to the last blank line before its first key."""
    blank = [number for number in range(lead, first) if not lines[number].strip()]
    return blank[-1] + 1 if blank else (first if lines[lead].startswith("# yaml-language-server") else lead)


def _own_comments(lines: Sequence[str], first: int, column: int) -> int:
    """The first entry of a mapping begins at the comments between it and the key that holds the mapping."""
    at = first
    while not lines[first][:column].strip() and _is_comment(lines[at - 1]) and _depth(lines[at - 1]) == column:
        at -= 1
    return at


def _end(lines: Sequence[str], key: int, column: int) -> int:
    """The line after the last entry: the next one that stands further out, less the comments and blanks above it."""
    at = key + 1
    while at < len(lines) and (not lines[at].strip() or _depth(lines[at]) > column or _is_list_item(lines[at], column)):
        at += 1
    while at > key + 1 and not lines[at - 1].strip():
        at -= 1
    return at


def _is_list_item(line: str, column: int) -> bool:
    """YAML lets the list of a key stand as far out as the key."""
    return _depth(line) == column and line.lstrip().startswith("- ")


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(string.whitespace))


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _laid_out(document: dict[str, Any]) -> yaml.Node:
    """Objects and routes have lines of their own; what is in them is on one line where it fits."""
    node = _Dumper(io.StringIO(), sort_keys=False).represent_data(document)
    waiting: list[tuple[Path, yaml.Node]] = [((), node)]
    while waiting:
        path, one = waiting.pop()
        if not isinstance(one, yaml.CollectionNode):
            continue
        one.flow_style = not _holds_objects(path, one) and len(_on_one_line(one)) <= _ONE_LINE
        if isinstance(one, yaml.MappingNode) and not one.flow_style:
            waiting += [((*path, key.value), value) for key, value in one.value]
        elif isinstance(one, yaml.SequenceNode) and not one.flow_style:
            waiting += [((*path, at), item) for at, item in enumerate(one.value)]
    return node


def _holds_objects(path: Path, node: Any) -> bool:
    """Whether a document, a collection, a module, its routes, or a route is there."""
    if len(path) == 1:
        return all(isinstance(value, yaml.MappingNode) for _, value in node.value)
    return not path or (path[0] == "modules" and (len(path) == 2 or (path[2] == "routes" and len(path) <= 4)))


def _on_one_line(node: yaml.Node) -> str:
    return yaml.serialize(_flowing(node), Dumper=_Dumper, allow_unicode=True, width=_WIDTH)


def _flowing(node: Any) -> Any:
    if isinstance(node, yaml.MappingNode):
        node.flow_style = True
        for key, value in node.value:
            _flowing(key)
            _flowing(value)
    elif isinstance(node, yaml.SequenceNode):
        node.flow_style = True
        for item in node.value:
            _flowing(item)
    elif "\n" in node.value:
        node.style = '"'
    return node
