"""Objects of the language as rows of the store, and back. The store knows nothing of the language; this is the seam."""

from collections.abc import Sequence
from typing import Any

from db.rows import ObjectRow
from gateway.document import Object
from gateway.problems import Path, Position


def to_row(item: Object) -> ObjectRow:
    positions = [[list(path), line, column] for path, (line, column) in item.positions.items()]
    ignored = list(map(list, item.ignored))
    return ObjectRow(item.kind, item.name, item.owner, dict(item.labels), item.body, item.file, positions, ignored)


def from_row(row: ObjectRow) -> Object:
    positions = dict(map(_position, row.positions))
    ignored = tuple((line, code) for line, code in row.ignored)
    return Object(row.kind, row.name, row.owner, row.labels, row.body, row.file, positions, ignored)


def _position(written: Sequence[Any]) -> tuple[Path, Position]:
    path, line, column = written
    return tuple(path), (line, column)
