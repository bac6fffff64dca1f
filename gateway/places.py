"""Where things are written: from a path of the merged document to file, line and column, and to that line's text."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.document import Key, Object, key_of, path_of
from gateway.problems import Path, Place, Position, Problem
from gateway.source import Source

AT_KEY: Final = frozenset({"GW101", "GW102", "GW106", "GW107", "GW401", "GW402"})
"""Problems of a key itself; every other one points at the value if that is a scalar."""


@dataclass(frozen=True)
class Where:
    """The places of a merged document: objects by key, and the files whose text is at hand."""

    objects: Mapping[Key, Object] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)

    @classmethod
    def of(cls, objects: Iterable[Object], sources: Iterable[Source] = ()) -> "Where":
        return cls({item.key: item for item in objects}, {source.file: source for source in sources})

    def locate(self, path: Path, *, at_key: bool = False) -> Place | None:
        """The place of the path, or of the nearest part around it that is written; None if nothing is."""
        key = key_of(path)
        item = self.objects.get(key) if key is not None else None
        if item is None or key is None:
            return self._in_any_source(path, at_key=at_key)
        source = self.sources.get(item.file)
        if source is not None and path_of(key) in source.positions:
            position = _nearest(source, path, at_key=at_key)
            return Place(item.file, *position) if position else None
        position = _longest(item.positions, path[len(path_of(key)) :])
        # An object kept from an earlier text of a file that is at hand now: its lines are not that file's any more.
        file = item.file if source is None else f"{item.file} (stored)"
        return Place(file, *position) if position else None

    def placed(self, problem: Problem) -> Problem:
        """The problem with its place, if it has none yet and there is one."""
        if problem.place is not None:
            return problem
        place = self.locate(problem.path, at_key=problem.code in AT_KEY)
        return replace(problem, place=place) if place else problem

    def line(self, place: Place) -> str | None:
        """The text of the line, without its break; None if the file's text is not at hand."""
        source = self.sources.get(place.file)
        if source is None:
            return None
        return source.lines[place.line - 1] if place.line <= len(source.lines) else None

    def may_be_secret(self, place: Place) -> bool:
        source = self.sources.get(place.file)
        return source is not None and place.line in source.secret_lines

    def _in_any_source(self, path: Path, *, at_key: bool) -> Place | None:
        for source in self.sources.values():
            position = _nearest(source, path, at_key=at_key)
            if position:
                return Place(source.file, *position)
        return next((Place(source.file, 1, 1) for source in self.sources.values()), None) if not path else None


def in_source(source: Source, problem: Problem) -> Problem:
    """The problem placed in that one file: where the path is, else the file's beginning."""
    if problem.place is not None:
        return problem
    position = _nearest(source, problem.path, at_key=problem.code in AT_KEY) or (1, 1)
    return replace(problem, place=Place(source.file, *position))


def sort_key(problem: Problem) -> tuple[object, ...]:
    """By file, line and column; what has no place comes last, by path."""
    place = problem.place
    by_path = tuple(map(str, problem.path))
    return (place is None, place or Place("", 0, 0), by_path, problem.code, problem.message)


def _nearest(source: Source, path: Path, *, at_key: bool) -> Position | None:
    if not at_key and path in source.value_positions:
        return source.value_positions[path]
    return _longest(source.positions, path)


def _longest(positions: Mapping[Path, Position], path: Path) -> Position | None:
    """The position of the longest written prefix of the path."""
    prefixes = (path[:length] for length in range(len(path), -1, -1))
    return next((positions[prefix] for prefix in prefixes if prefix in positions), None)
