"""The change as its author sees it: objects and routes that come, go or differ, field by field, each with its place."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from gateway.document import KINDS, SINGLE, Key, Object, path_of
from gateway.places import Where
from gateway.plan.masking import masked
from gateway.problems import Path, Place

Action = Literal["created", "updated", "deleted"]

ROUTES: Final = "routes"
"""The one field of a module that is told of by itself: its routes are what people change, review and look for."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One field that differs. `old`, `new`: JSON-like values without secrets, None where there is nothing."""

    path: Path
    action: Action
    old: Any = None
    new: Any = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """An object, or a route of a module, that differs. `kind`: in the singular. `name` of a route: `module/route`.

    `edits`: of an updated one; of the others the whole is new, or gone. `place`: where it is written, or was.
    """

    kind: str
    name: str
    action: Action
    owner: str
    path: Path
    edits: tuple[Edit, ...] = ()
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Where the old and the new text have things."""

    before: Where
    after: Where

    def of(self, path: Path, action: Action) -> Place | None:
        return (self.before if action == "deleted" else self.after).locate(path, at_key=action != "updated")


def items(before: Mapping[Key, Object], after: Mapping[Key, Object], places: Places) -> Iterator[Item]:
    """By kind in the document's order, then by name; a module's routes follow it."""
    for key in sorted(before.keys() | after.keys(), key=lambda key: (KINDS.index(key[0]), key[1])):
        old, new = before.get(key), after.get(key)
        if old is not None and new is not None and old.same_content(new):
            continue
        yield from _of_object(old, new, places)


def _of_object(old: Object | None, new: Object | None, places: Places) -> Iterator[Item]:
    one = new or old
    if one is None:
        return
    kind = one.kind if one.kind in SINGLE else one.kind.removesuffix("s")
    edits = tuple(_placed(_edits(old, new), places)) if old is not None and new is not None else ()
    action = _action(old, new)
    if action != "updated" or edits:
        yield Item(kind, one.name, action, one.owner, one.path, edits, places.of(one.path, action))
    if one.kind == "modules":
        yield from _of_routes(one, _routes(old), _routes(new), places)


def _of_routes(module: Object, before: Mapping[str, Any], after: Mapping[str, Any], places: Places) -> Iterator[Item]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        path = (*module.path, ROUTES, name)
        action = _action(old, new)
        edits = tuple(_placed(compared(old, new, path), places)) if action == "updated" else ()
        yield Item("route", f"{module.name}/{name}", action, module.owner, path, edits, places.of(path, action))


def _routes(module: Object | None) -> Mapping[str, Any]:
    found = module.body.get(ROUTES) if module is not None and isinstance(module.body, dict) else None
    return found if isinstance(found, dict) else {}


def _action(old: Any, new: Any) -> Action:
    return "created" if old is None else "deleted" if new is None else "updated"


def _edits(old: Object, new: Object) -> Iterator[Edit]:
    """Of the object's own fields, its labels, and the order of tiers, which is their rank."""
    yield from compared(_own(old), _own(new), path_of(new.key))
    yield from compared(dict(old.labels), dict(new.labels), (*path_of(new.key), "labels"))
    if new.kind == "tiers" and old.body == new.body and list(old.body) != list(new.body):
        yield Edit(("tiers",), "updated", list(old.body), list(new.body))


def _own(item: Object) -> Any:
    if item.kind != "modules" or not isinstance(item.body, dict):
        return item.body
    return {name: value for name, value in item.body.items() if name != ROUTES}


def _placed(edits: Iterator[Edit], places: Places) -> Iterator[Edit]:
    for edit in edits:
        place = places.of(edit.path, edit.action)
        old, new = masked(edit.path, edit.old), masked(edit.path, edit.new)
        yield Edit(edit.path, edit.action, old, new, place)


def compared(old: Any, new: Any, path: Path) -> Iterator[Edit]:
    """The smallest parts that differ. Of lists what both begin and end with is left alone."""
    if old == new and type(old) is type(new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _of_mappings(old, new, path)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _of_lists(old, new, path)
    else:
        yield Edit(path, "updated", old, new)


def _of_mappings(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> Iterator[Edit]:
    for name in dict.fromkeys((*new, *old)):
        here = (*path, name)
        if name not in old:
            yield Edit(here, "created", None, new[name])
        elif name not in new:
            yield Edit(here, "deleted", old[name])
        else:
            yield from compared(old[name], new[name], here)


def _of_lists(old: Sequence[Any], new: Sequence[Any], path: Path) -> Iterator[Edit]:
    shorter = min(len(old), len(new))
    start = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    same = next((n for n in range(shorter - start) if old[-1 - n] != new[-1 - n]), shorter - start)
    gone, come = old[start : len(old) - same], new[start : len(new) - same]
    for at in range(max(len(gone), len(come))):
        here = (*path, start + at)
        if at >= len(gone):
            yield Edit(here, "created", None, come[at])
        elif at >= len(come):
            yield Edit(here, "deleted", gone[at])
        else:
            yield from compared(gone[at], come[at], here)
