"""Revisions: what a gateway was at each moment, numbered without gaps, never changed.

One commit is one transaction: the bodies that are new (stored once under their hash), the revision, its objects, the
head, the audit row and the hint to listeners. A crash anywhere leaves all of it or nothing.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import audit, canonical, rollouts, tables
from db import head as heads
from db.rollouts import Way
from db.rows import Head, ObjectRow, RevisionRow

Identity = tuple[str, str]
"""(kind, name)"""


class Conflict(Exception):  # noqa: N818 - the word of HTTP and of the command line
    """The head is not the one that the change was made for. `head`: what it is now."""

    def __init__(self, head: int, expected: int) -> None:
        super().__init__(f"the head is revision {head}, not {expected}")
        self.head = head
        self.expected = expected


class NotFound(LookupError):  # noqa: N818
    """There is no such revision."""


async def commit(
    target: AsyncConnection | AsyncEngine,
    *,
    expected_revision: int | None,
    objects: Sequence[ObjectRow],
    author: str,
    message: str,
    digest: str,
    allow_shrink: bool = False,
    git_commit: str = "",
    way: Way = Way(),  # noqa: B008 - frozen
) -> RevisionRow:
    """Makes `objects` (all of them, not a change) the head revision, in the caller's transaction or one of its own.

    Objects equal to the head's (in kind, name, owner, labels and body) make no revision: the head's is returned, unless
    `allow_shrink` is said of it only now (it is held, and this lets it go). Raises
    Conflict when `expected_revision` is given and is not the head, ValueError for two objects of one kind and name,
    rollouts.Running while another revision goes out and `way` does not say that this one takes its place.
    """
    async with _connection(target) as connection:
        locked = await heads.lock(connection)
        parent = locked.head.revision
        if expected_revision is not None and expected_revision != parent:
            raise Conflict(parent, expected_revision)
        before, after = await _digests(connection, parent), _digest_all(objects)
        if before == after and parent:
            same = await get(connection, parent)
            if same.allow_shrink or not allow_shrink:
                return same
        revision = RevisionRow(parent + 1, parent, digest, author, message, locked.now, allow_shrink, git_commit)
        await _insert(connection, revision, objects)
        await rollouts.begin(connection, locked, revision.number, objects, author, way)
        await heads.advance(connection, Head(revision.number, locked.head.keys_version))
        await audit.append(
            connection,
            actor=author,
            action="apply",
            object="gateway",
            revision=revision.number,
            detail={"digest": digest, "message": message, "diff": diff_hash(before, after)}
            | ({"git_commit": git_commit} if git_commit else {}),
        )
        return revision


async def head(connection: AsyncConnection) -> Head:
    return await heads.read(connection)


async def get(connection: AsyncConnection, number: int) -> RevisionRow:
    """Raises NotFound."""
    found = (
        await connection.execute(select(tables.revisions).where(tables.revisions.c.number == number))
    ).one_or_none()
    if found is None:
        raise NotFound(f"there is no revision {number}")
    return RevisionRow(**found._mapping)


async def load(connection: AsyncConnection, number: int) -> tuple[ObjectRow, ...]:
    """The objects of a revision, by kind and name; none for revision 0. Raises NotFound."""
    query = (
        select(tables.objects, tables.bodies.c.body)
        .join(tables.bodies, tables.objects.c.body_hash == tables.bodies.c.hash)
        .where(tables.objects.c.revision == number)
        .order_by(tables.objects.c.kind, tables.objects.c.name)
    )
    rows = tuple(_object(found) for found in await connection.execute(query))
    if not rows and number:
        await get(connection, number)  # an empty gateway is a revision too
    return rows


async def may_shrink(connection: AsyncConnection, *, after: int, until: int) -> bool:
    """Whether one of the revisions in `after < number <= until` was meant to take much away."""
    columns = tables.revisions.c
    query = select(columns.number).where(columns.number > after, columns.number <= until, columns.allow_shrink)
    return (await connection.execute(query.limit(1))).first() is not None


async def history(
    connection: AsyncConnection, *, limit: int = 50, before: int | None = None
) -> tuple[RevisionRow, ...]:
    """The newest first; `before`: only smaller numbers."""
    query = select(tables.revisions).order_by(tables.revisions.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(tables.revisions.c.number < before)
    return tuple(RevisionRow(**found._mapping) for found in await connection.execute(query))


def diff_hash(before: Mapping[Identity, str], after: Mapping[Identity, str]) -> str:
    """SHA-256 over what changed: kind, name, hash before, hash after of each object (empty where there is none)."""
    changed = [
        [*identity, before.get(identity, ""), after.get(identity, "")]
        for identity in sorted(before.keys() | after.keys())
        if before.get(identity) != after.get(identity)
    ]
    return canonical.digest(canonical.text(changed))


async def _digests(connection: AsyncConnection, number: int) -> dict[Identity, str]:
    columns = tables.objects.c
    query = select(columns.kind, columns.name, columns.owner, columns.labels, columns.body_hash)
    found = await connection.execute(query.where(columns.revision == number))
    return {(row.kind, row.name): _whole(row.owner, row.labels, row.body_hash) for row in found}


def _digest_all(objects: Sequence[ObjectRow]) -> dict[Identity, str]:
    return {
        (row.kind, row.name): _whole(row.owner, _labels(row), canonical.digest(canonical.text(row.body)))
        for row in objects
    }


def _whole(owner: str, labels: str, body_hash: str) -> str:
    return canonical.digest(canonical.text([owner, labels, body_hash]))


def _labels(row: ObjectRow) -> str:
    return canonical.text(dict(sorted(row.labels.items())))


async def _insert(connection: AsyncConnection, revision: RevisionRow, objects: Sequence[ObjectRow]) -> None:
    if len({(row.kind, row.name) for row in objects}) != len(objects):
        raise ValueError("two objects have the same kind and name")
    written = [(row, canonical.text(row.body)) for row in objects]
    bodies = {canonical.digest(body): body for _, body in written}
    await connection.execute(
        insert(tables.revisions).values(
            number=revision.number, parent=revision.parent, digest=revision.digest, author=revision.author,
            message=revision.message, created_at=revision.created_at, allow_shrink=revision.allow_shrink,
            git_commit=revision.git_commit,
        )
    )  # fmt: skip
    if objects:
        await connection.execute(
            upsert(tables.bodies).on_conflict_do_nothing(),
            [{"hash": key, "body": body} for key, body in sorted(bodies.items())],
        )
        await connection.execute(
            insert(tables.objects),
            [_values(revision.number, row, canonical.digest(body)) for row, body in written],
        )


def _values(revision: int, row: ObjectRow, body_hash: str) -> dict[str, Any]:
    return {
        "revision": revision,
        "kind": row.kind,
        "name": row.name,
        "owner": row.owner,
        "labels": _labels(row),
        "body_hash": body_hash,
        "file": row.file,
        "positions": canonical.text(list(row.positions)),
        "ignored": canonical.text(list(row.ignored)),
    }


def _object(found: Any) -> ObjectRow:
    return ObjectRow(
        kind=found.kind,
        name=found.name,
        owner=found.owner,
        labels=json.loads(found.labels),
        body=json.loads(found.body),
        file=found.file,
        positions=json.loads(found.positions),
        ignored=json.loads(found.ignored),
    )


@asynccontextmanager
async def _connection(target: AsyncConnection | AsyncEngine) -> AsyncIterator[AsyncConnection]:
    if isinstance(target, AsyncEngine):
        async with target.begin() as connection:
            yield connection
    else:
        yield target
