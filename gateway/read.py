"""From texts to a gateway, or to everything that is wrong with them, all at once and in the order of the files."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field, ValidationError

from gateway import source
from gateway.check import check
from gateway.decoding import problems_of
from gateway.document import KINDS, SINGLE, Object, assemble, key_of, objects_of, path_of
from gateway.model import Gateway, Model, decode
from gateway.naming import Names
from gateway.places import Where, in_source, sort_key
from gateway.problems import Path, Problem
from gateway.scalars import Name
from gateway.source import Source
from gateway.suppress import without_accepted


class FileHead(Model):
    """What every file says of itself, and that collections are mappings; what is in them is decoded when merged."""

    version: Literal[1]
    owner: Name = "default"
    labels: dict[str, str] = Field(default_factory=dict)
    listeners: dict[str, Any] = Field(default_factory=dict)
    upstreams: dict[str, Any] = Field(default_factory=dict)
    jwt_providers: dict[str, Any] = Field(default_factory=dict)
    api_keys: dict[str, Any] = Field(default_factory=dict)
    basic_auth: dict[str, Any] = Field(default_factory=dict)
    client_certificates: dict[str, Any] = Field(default_factory=dict)
    oidc: dict[str, Any] = Field(default_factory=dict)
    tiers: dict[str, Any] = Field(default_factory=dict)
    rate_limit_defaults: dict[str, Any] = Field(default_factory=dict)
    rate_limit_domains: dict[str, Any] = Field(default_factory=dict)
    defaults: dict[str, Any] = Field(default_factory=dict)
    floor: dict[str, Any] = Field(default_factory=dict)
    delegations: dict[str, Any] = Field(default_factory=dict)
    modules: dict[str, Any] = Field(default_factory=dict)
    rollout: dict[str, Any] = Field(default_factory=dict)
    envoy: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """The objects of all files, the gateway if nothing is wrong with it, and the problems with their places.

    `where` turns a path into a place, for problems that are found later.
    """

    objects: tuple[Object, ...]
    gateway: Gateway | None
    problems: tuple[Problem, ...]
    where: Where

    @property
    def ok(self) -> bool:
        return self.gateway is not None


_WHOLE_KINDS = frozenset((kind,) for kind in KINDS)

_LACKING = frozenset({"GW103", "GW108", "GW217"})

Merge = Callable[[tuple[Object, ...]], tuple[Object, ...]]


def load(files: Sequence[tuple[str, str]], merge: Merge = tuple) -> Loaded:
    """Read (name, text) pairs as one gateway."""
    return combine([source.read(file, text) for file, text in files], merge)


def load_bytes(files: Sequence[tuple[str, bytes]]) -> Loaded:
    """`load` for the bytes of files: what is not UTF-8 is a problem of that file."""
    return combine([source.read_bytes(file, data) for file, data in files])


def combine(read: Sequence[tuple[Source, list[Problem]]], merge: Merge = tuple) -> Loaded:
    """Merge files that were read. Where one could not be read to its end, nothing is said of what seems to be missing.

    `merge` puts the files' objects into a larger gateway, which is then what is decoded and checked.
    """
    sources = [one for one, _ in read]
    problems = [problem for _, found in read for problem in found]
    heads = [in_source(one, problem) for one in sources if one.complete for problem in _head_problems(one)]
    objects, doubles = _merged(sources)
    problems += heads + doubles
    complete = all(one.complete for one in sources) and not any(problem.path in _WHOLE_KINDS for problem in heads)
    whole = merge(objects)
    where = Where.of(whole, sources)
    gateway, found = check_objects(whole, complete=complete, where=where)
    problems += _not_following(found, problems, sources)
    wrong = any(problem.severity == "error" for problem in problems)
    problems = without_accepted(problems, where)
    return Loaded(objects, None if wrong else gateway, tuple(sorted(problems, key=sort_key)), where)


def _not_following(found: Iterable[Problem], unread: Iterable[Problem], sources: Iterable[Source]) -> list[Problem]:
    """Without what only comes from text that could not be read: the same value, or what a cut-off file lacks."""
    places = {one.place for one in unread if one.place is not None and one.severity == "error"}
    lines = {(place.file, place.line) for place in places}
    cut_off = {one.file for one in sources if not one.complete}

    def follows(problem: Problem) -> bool:
        place = problem.place
        if place is None or place in places:
            return place is not None
        return place.file in cut_off and (problem.code in _LACKING or (place.file, place.line) in lines)

    return [problem for problem in found if not follows(problem)]


def check_objects(
    objects: Iterable[Object], *, complete: bool = True, where: Where | None = None
) -> tuple[Gateway | None, tuple[Problem, ...]]:
    """Decode and check; the gateway is None if there is an error. Problems are placed and sorted.

    What cannot be decoded is left out and the rest is still checked, so that one run shows everything.
    """
    objects = tuple(objects)
    where = where or Where.of(objects)
    document = assemble(objects)
    names = Names.of(document, {item.key: item.owner for item in objects}, complete=complete)
    try:
        gateway = decode(document)
        problems = check(gateway, names)
    except ValidationError as error:
        problems = problems_of(error, document)
        remains = _without(document, problems)
        problems += _check_rest(remains, names)
        gateway = None
    placed = tuple(sorted(map(where.placed, problems), key=sort_key))
    wrong = any(problem.severity == "error" for problem in placed)
    return (None if wrong else gateway), placed


def _head_problems(one: Source) -> list[Problem]:
    try:
        FileHead.model_validate(one.values)
    except ValidationError as error:
        return [_with_version(problem) for problem in problems_of(error, one.values)]
    return []


def _with_version(problem: Problem) -> Problem:
    if problem.path == ("version",) or "'version'" in problem.message:
        return replace(problem, help="this is the language's version: write `version: 1`")
    return problem


def _merged(sources: Sequence[Source]) -> tuple[tuple[Object, ...], list[Problem]]:
    """All objects, the first of each name; two files that write one object are a problem at the second."""
    merged: dict[tuple[str, str], Object] = {}
    problems: list[Problem] = []
    by_file = {one.file: one for one in sources}
    for one in sources:
        for item in objects_of(one):
            if isinstance(item.body, dict) or item.kind not in SINGLE:
                first = merged.setdefault(item.key, item)
                if first is not item:
                    problems.append(in_source(one, _double(item, first, by_file[first.file])))
    return tuple(merged.values()), problems


def _double(item: Object, first: Object, first_source: Source) -> Problem:
    place = in_source(first_source, Problem("GW401", first.path, "")).place
    what = " ".join(map(str, path_of(item.key)))
    help_ = "an object is written in one file: remove one of the two"
    return Problem("GW401", item.path, f"{what} is already defined at {place}", help_)


def _without(document: dict[str, Any], problems: Iterable[Problem]) -> dict[str, Any]:
    """The document without the objects and routes that have problems."""
    remains = dict(document)
    for cut in {_cut(problem.path) for problem in problems}:
        _remove(remains, cut)
    return remains


def _cut(path: Path) -> Path:
    """What to leave out for a problem there: the route, else the object."""
    if len(path) >= 4 and path[0] == "modules" and path[2] == "routes":
        return path[:4]
    key = key_of(path)
    return path_of(key) if key is not None else path[:1]


def _remove(document: dict[str, Any], path: Path) -> None:
    """Remove a part of the document, copying the mappings on the way."""
    for part in path[:-1]:
        if part not in document:
            return
        document[str(part)] = dict(document[str(part)])
        document = document[str(part)]
    if path:
        document.pop(str(path[-1]), None)


def _check_rest(document: dict[str, Any], names: Names) -> list[Problem]:
    try:
        return check(decode(document), replace(names, decoded=False))
    except ValidationError:
        return []
