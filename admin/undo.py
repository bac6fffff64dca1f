"""Undo: the content of an earlier revision as a new one. History only grows, and nothing skips the gate."""

import asyncio
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncEngine

from admin.apply import Applied, Applier, Apply, accepted, of_secrets
from admin.problems import ApiError
from admin.stored import objects_of
from db import revisions
from gateway import read
from gateway.document import Change, Object
from gateway.places import Where
from gateway.read import Loaded


@dataclass(frozen=True)
class Undo:
    """`revision`: whose content is wanted again; None for the one before the head."""

    revision: int | None = None
    message: str = ""
    supersede: bool = False
    expected_revision: int | None = None


class Undoer:
    def __init__(self, engine: AsyncEngine, applier: Applier) -> None:
        self._engine = engine
        self._applier = applier

    async def undo(self, actor: str, wanted: Undo) -> Applied:
        """Raises ApiError: 404, 409 when the head moved, 422 for content that is not valid any more.

        The guard against what takes much away is not asked: that content was live, and is named by its number.
        """
        head = await self._applier.head()
        if wanted.expected_revision not in (None, head.number):
            raise await self._applier.moved(head.number, wanted.expected_revision or 0)
        number = head.number - 1 if wanted.revision is None else wanted.revision
        if number < 1:
            raise ApiError(409, "nothing_to_undo", "there is no revision before the head")
        objects = await objects_of(self._engine, number)
        loaded = await asyncio.to_thread(checked, objects, number)
        problems = accepted(loaded.problems, loaded)
        candidate = await self._applier.compile(loaded, head.number + 1)
        problems += accepted((*of_secrets(candidate), *self._applier.of_services(loaded, candidate)), loaded)
        change = changed(head.objects, objects)
        message = f"undo: revision {number} again" + (f": {wanted.message}" if wanted.message else "")
        apply = Apply((), message, allow_shrink=True, supersede=wanted.supersede)
        try:
            return await self._applier.store(actor, apply, head, change, candidate.snapshot.version, problems)
        except revisions.Conflict as conflict:
            raise await self._applier.moved(conflict.head, conflict.expected) from conflict


def changed(before: tuple[Object, ...], after: tuple[Object, ...]) -> Change:
    """What becomes of the objects, whoever owns them."""
    old, new = {item.key: item for item in before}, {item.key: item for item in after}
    return Change(
        created=tuple(item for key, item in new.items() if key not in old),
        updated=tuple(item for key, item in new.items() if key in old and not item.same_content(old[key])),
        deleted=tuple(item for key, item in old.items() if key not in new),
        objects=after,
    )


def checked(objects: tuple[Object, ...], number: int) -> Loaded:
    """What revision `number` says by the rules of now. Its places say which revision's files they are in."""
    here = tuple(replace(item, file=f"{item.file}@{number}") for item in objects)
    gateway, problems = read.check_objects(here)
    return Loaded(here, gateway, tuple(problems), Where.of(here))
