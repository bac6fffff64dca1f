"""What this replica publishes, kept on its own disk, so that it can start while PostgreSQL is away.

Kept is the snapshot itself, byte for byte what the nodes have, and the document's objects beside it: refusals are
traced to their lines and tokens are minted as before. What was wrong with it is not kept: the next compile tells.
"""

import asyncio
from dataclasses import asdict, replace
from datetime import datetime
from typing import Final

import structlog

from db.rows import ObjectRow
from gateway import read
from xds_server.compiler.reach import shares_of
from xds_server.kept import About, KeptFile, Unusable
from xds_server.resources import Snapshot
from xds_server.rollout.publisher import Published, Publisher
from xds_server.rollout.stored import from_row, to_row

log = structlog.get_logger(__name__)

FILE: Final = "snapshot"
PATIENCE: Final = 2.0  # seconds that PostgreSQL is waited for before the copy is served
PAUSE: Final = 1.0  # seconds between two writes: a burst of changes costs the disk one


async def keep(publisher: Publisher, file: KeptFile | None, last: Published | None, *, at_once: bool) -> None:
    """Until cancelled: serves `last` if it must be, then writes whatever is published. Without a file, nothing."""
    if last is not None:
        await _stand_in(publisher, last, at_once)
    if file is not None:
        await _copy(publisher, file)
    await asyncio.Event().wait()


async def _stand_in(publisher: Publisher, last: Published, at_once: bool) -> None:
    """Serve `last` `at_once`, or if the store is away for PATIENCE, or if what it holds cannot be published.

    A store in which nothing was ever applied is somebody's new beginning: then nothing is served.
    """
    while not (at_once or publisher.state.ready or publisher.state.failure):
        try:
            async with asyncio.timeout(PATIENCE):
                await publisher.changed()
        except TimeoutError:
            at_once = not publisher.watch.connected
    if not publisher.state.ready:
        publisher.resume(last)


async def _copy(publisher: Publisher, file: KeptFile) -> None:
    """A disk that refuses costs nothing but the copy."""
    written: Published | None = None
    while True:
        published = publisher.state.published
        if published is None or published is written or published.from_disk:
            await publisher.changed()
            continue
        try:
            await asyncio.to_thread(file.write, published.snapshot, about(published))
        except OSError as error:
            log.error("snapshot_not_kept", revision=published.snapshot.revision, reason=str(error))
        written = published
        await asyncio.sleep(PAUSE)


def kept(file: KeptFile) -> Published | None:
    """What was published last, if it can be believed; why not is logged."""
    try:
        found = file.read()
        return None if found is None else _published(*found)
    except (Unusable, OSError) as error:
        log.error("kept_snapshot_refused", reason=str(error), effect="the database is waited for")
    return None


def about(published: Published) -> About:
    return {"at": published.at.isoformat(), "objects": [asdict(to_row(item)) for item in published.objects]}


def _published(snapshot: Snapshot, said: About) -> Published:
    try:
        objects = tuple(from_row(ObjectRow(**row)) for row in said["objects"])
        at = datetime.fromisoformat(said["at"])
    except (KeyError, TypeError, ValueError) as error:
        raise Unusable(f"the kept objects cannot be read ({type(error).__name__})") from None
    gateway, _ = read.check_objects(objects)
    if gateway is None or not objects:
        raise Unusable("the kept document is not valid for this version of Tollhouse")
    snapshot = replace(snapshot, shares=shares_of(gateway))  # who gets what stands in the document
    return Published(snapshot, gateway, objects, (), at, from_disk=True)
