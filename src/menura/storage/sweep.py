"""Cleaning up at the start what a killed process left behind."""

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from menura.storage.database import Database
from menura.storage.objects import Objects
from menura.storage.tables import StoredObject

GRACE = timedelta(hours=1)
"""How young an orphan is left alone when another process may be about to give it a row."""

log = logging.getLogger("menura.storage")


@dataclass(frozen=True, slots=True)
class Swept:
    """What was removed, and which rows have lost their object (always none, by design)."""

    unfinished: int
    orphans: int
    missing: tuple[str, ...]


async def sweep(database: Database, objects: Objects, *, alone: bool) -> Swept:
    """Remove unfinished files and objects without a row.

    alone: no other process uses the store, so nothing young needs sparing.
    """
    newest = datetime.now(UTC) if alone else datetime.now(UTC) - GRACE
    unfinished = objects.clear_incoming(time.time() + 1 if alone else newest.timestamp())
    # Objects first, rows second: an object gets its row after it was stored, so that one with a
    # row by now can have been listed without, but not the other way round.
    listed = {found.key: found.modified async for found in objects.list()}
    async with database.reading() as session:
        known = set(await session.scalars(select(StoredObject.key)))
    orphans = [
        key for key, modified in listed.items() if key not in known and (alone or modified < newest)
    ]
    for key in orphans:
        await objects.delete(key)
    missing = tuple(sorted(known - listed.keys())) if alone else ()
    if unfinished or orphans:
        log.info("Removed %d unfinished files and %d orphans.", unfinished, len(orphans))
    for key in missing:
        log.error("The object %s is gone from the store although a row refers to it.", key)
    return Swept(unfinished, len(orphans), missing)
