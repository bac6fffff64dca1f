"""Findings that an operator has seen and accepts, by a comment in the document (`gateway.comments`).

Only warnings can be accepted; an error stops an apply whatever is written. A comment that accepts nothing is itself a
warning (GW015), so that none outlives what it was for.
"""

from collections.abc import Iterator, Sequence

from gateway.document import key_of
from gateway.places import Where
from gateway.problems import Place, Problem
from gateway.source import Source

Used = tuple[str, int, str]
"""A comment that was needed: file, line and code."""


def without_accepted(problems: Sequence[Problem], where: Where) -> list[Problem]:
    """The problems that nobody has accepted, and one more for each comment at hand that accepts nothing."""
    used: set[Used] = set()
    left = []
    for problem in problems:
        by = _accepted_by(problem, where)
        if by is None:
            left.append(problem)
        else:
            used.add(by)
    return left + [
        useless for source in where.sources.values() if source.complete for useless in _useless(source, used)
    ]


def _accepted_by(problem: Problem, where: Where) -> Used | None:
    """The comment that accepts the problem: of the text at hand, or stored with an object of an earlier apply."""
    place = problem.place
    if problem.severity == "error" or place is None:
        return None
    wanted = (place.line, problem.code)
    source = where.sources.get(place.file)
    if source is not None:
        return (place.file, *wanted) if wanted in source.ignored else None
    key = key_of(problem.path)
    item = where.objects.get(key) if key is not None else None
    return (place.file, *wanted) if item is not None and wanted in item.ignored else None


def _useless(source: Source, used: set[Used]) -> Iterator[Problem]:
    for comment in source.comments:
        place = Place(source.file, *comment.at)
        if not comment.codes:
            yield Problem("GW015", (), "no code to ignore", "write `# gwctl: ignore GW202`", "warning", place)
        for code in comment.codes:
            if (source.file, comment.line, code) not in used:
                message = f"there is no warning {code} to ignore here"
                yield Problem("GW015", (), message, "remove the comment; errors cannot be ignored", "warning", place)
