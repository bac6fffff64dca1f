"""Objects: what is owned, stored, compared and merged.

A document is a set of objects. One object is one entry of a collection (`modules.orders`), except that `tiers` is a
single object, since its order is the rank. An object belongs to the owner of the file that wrote it, and two files may
not write the same one.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.problems import Path, Position, Problem, dotted
from gateway.source import Source

KINDS: Final = (
    "listeners",
    "upstreams",
    "jwt_providers",
    "api_keys",
    "basic_auth",
    "client_certificates",
    "oidc",
    "tiers",
    "rate_limit_defaults",
    "rate_limit_domains",
    "defaults",
    "floor",
    "delegations",
    "modules",
    "rollout",
    "envoy",
)
"""Every key of a document that holds objects, in the model's order."""

SINGLE: Final = frozenset({"tiers", "rate_limit_defaults", "defaults", "floor", "rollout", "envoy"})
"""Kinds whose whole body is one object, named like the kind."""

DEFAULT_OWNER: Final = "default"

Key = tuple[str, str]
"""Kind and name."""


@dataclass(frozen=True)
class Object:
    """One unit of ownership. `body` is JSON-like; `positions` are of its parts, by path within it (`()` is itself).

    `ignored`: the warnings that comments of its file accept, each as a line and a code (see `gateway.suppress`).
    """

    kind: str
    name: str
    owner: str
    labels: Mapping[str, str]
    body: Any
    file: str
    positions: Mapping[Path, Position]
    ignored: tuple[tuple[int, str], ...] = ()

    @property
    def key(self) -> Key:
        return (self.kind, self.name)

    @property
    def path(self) -> Path:
        """Where the object is in the merged document."""
        return path_of(self.key)

    def same_content(self, other: "Object") -> bool:
        """Whether both mean the same; where they were written does not count. The order of tiers does."""
        if self.kind == "tiers" and list(self.body or ()) != list(other.body or ()):
            return False
        return bool(self.body == other.body) and dict(self.labels) == dict(other.labels)


def path_of(key: Key) -> Path:
    kind, name = key
    return (kind,) if kind in SINGLE else (kind, name)


def key_of(path: Path) -> Key | None:
    """The object that a path of the merged document is in; None above all objects."""
    if not path or path[0] not in KINDS:
        return None
    kind = str(path[0])
    if kind in SINGLE:
        return (kind, kind)
    return (kind, str(path[1])) if len(path) > 1 else None


def objects_of(source: Source) -> tuple[Object, ...]:
    """The objects that a file writes, as they are: what is not a mapping at all is left to `read` to report."""
    owner = source.values.get("owner", DEFAULT_OWNER)
    labels = source.values.get("labels", {})
    positions = _positions_by_object(source)
    ignored = _ignored_by_object(source, positions)
    return tuple(
        Object(
            kind=kind,
            name=name,
            owner=owner if isinstance(owner, str) else DEFAULT_OWNER,
            labels=labels if isinstance(labels, dict) else {},
            body=body,
            file=source.file,
            positions=positions.get((kind, name), {}),
            ignored=ignored.get((kind, name), ()),
        )
        for kind, name, body in _bodies(source.values)
    )


def _bodies(values: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for kind in KINDS:
        if kind not in values:
            continue
        if kind in SINGLE:
            yield kind, kind, values[kind]
        elif isinstance(values[kind], dict):
            for name, body in values[kind].items():
                yield kind, name, body


def _positions_by_object(source: Source) -> dict[Key, dict[Path, Position]]:
    grouped: dict[Key, dict[Path, Position]] = {}
    for path, position in source.positions.items():
        key = key_of(path)
        if key is not None:
            grouped.setdefault(key, {})[path[len(path_of(key)) :]] = position
    return grouped


def _ignored_by_object(
    source: Source, positions: Mapping[Key, Mapping[Path, Position]]
) -> dict[Key, tuple[tuple[int, str], ...]]:
    """What comments accept within each object, so that it stays accepted when only the object is at hand."""
    if not source.ignored:
        return {}
    lines = {key: {line for line, _ in of_object.values()} for key, of_object in positions.items()}
    return {key: tuple(sorted(one for one in source.ignored if one[0] in of_key)) for key, of_key in lines.items()}


def assemble(objects: Iterable[Object]) -> dict[str, Any]:
    """The document that `model.decode` takes: kinds in the model's order, names sorted, tiers in order of rank."""
    collections: dict[str, dict[str, Any]] = {}
    for item in sorted(objects, key=lambda item: item.key):
        collections.setdefault(item.kind, {})[item.name] = item.body
    document: dict[str, Any] = {"version": 1}
    for kind in KINDS:
        if kind in collections:
            document[kind] = collections[kind][kind] if kind in SINGLE else collections[kind]
    return document


@dataclass(frozen=True)
class Change:
    """What an apply does to the stored objects. `objects` is the whole set after it: with problems, the one before."""

    created: tuple[Object, ...] = ()
    updated: tuple[Object, ...] = ()
    deleted: tuple[Object, ...] = ()
    unchanged: tuple[Object, ...] = ()
    objects: tuple[Object, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.created or self.updated or self.deleted)


def apply(current: Iterable[Object], new: Iterable[Object], *, prune: bool) -> Change:
    """Put `new` over `current`. Nothing is deleted but, with `prune`, what the same owners no longer write.

    An object of another owner is never touched: problem GW402, and the objects stay as they are.
    """
    before = {item.key: item for item in current}
    after = {item.key: item for item in new}
    problems = tuple(_taken(item, before[key]) for key, item in after.items() if _is_taken(item, before.get(key)))
    if problems:
        return Change(objects=_sorted(before.values()), problems=problems)
    owners = {item.owner for item in after.values()}
    deleted = {k: item for k, item in before.items() if prune and k not in after and item.owner in owners}
    kept = {k: item for k, item in before.items() if k not in deleted}
    same = {key for key, item in after.items() if key in before and item.same_content(before[key])}
    return Change(
        created=_sorted(item for key, item in after.items() if key not in before),
        updated=_sorted(item for key, item in after.items() if key in before and key not in same),
        deleted=_sorted(deleted.values()),
        unchanged=_sorted(after[key] for key in same),
        objects=_sorted((kept | after).values()),
    )


def _sorted(objects: Iterable[Object]) -> tuple[Object, ...]:
    return tuple(sorted(objects, key=lambda item: (KINDS.index(item.kind), item.name)))


def _is_taken(new: Object, old: Object | None) -> bool:
    return old is not None and old.owner != new.owner


def _taken(new: Object, old: Object) -> Problem:
    return Problem(
        "GW402",
        new.path,
        f"{dotted(new.path)} belongs to {old.owner}, not to {new.owner}",
        f"apply it from the files of {old.owner}, or give it another name here",
    )
