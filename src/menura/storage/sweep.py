"""Keeping the object store consistent with the database: whose it is, what dead processes left."""

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from menura.storage.database import LONG_PATIENCE, Database
from menura.storage.objects import Objects
from menura.storage.tables import StoredObject

GRACE = timedelta(hours=1)
"""How young an orphan is left alone when another process may be about to give it a row."""

QUIET = timedelta(days=7)
"""How long an unfinished file may have stood still when another process may be writing to it: a
live stream has no end of its own, and silence takes up hardly any of it."""

_WAYS_OUT = "name that database, or give this one a store of its own"

log = logging.getLogger("menura.storage")


async def known_keys(database: Database) -> set[str]:
    """Return the keys of all objects that a row refers to."""
    async with database.reading(LONG_PATIENCE) as session:
        return set(await session.scalars(select(StoredObject.key)))


class ForeignStoreError(ValueError):
    """The object store belongs to another database."""


async def settle_owner(database: Database, objects: Objects, owner: str | None) -> None:
    """See that the object store belongs to this database, and write it down where nobody did.

    owner: an id that this database alone holds, null while it holds nothing. Raises
    ForeignStoreError for a store of another database: to work with it would end in a sweep of all
    that it holds.
    """
    marked = await objects.owner()
    if marked is not None:
        if marked == owner:
            return
        raise ForeignStoreError(f"it belongs to another database; {_WAYS_OUT}")
    known = await known_keys(database)
    held = {found.key async for found in objects.own()}
    if held and not held & known:
        raise ForeignStoreError(f"this database knows nothing of what it holds; {_WAYS_OUT}")
    if owner is not None:
        await objects.claim(owner)


@dataclass(frozen=True, slots=True)
class Swept:
    """How many orphans were removed, and which rows have lost their object (always none, by
    design)."""

    orphans: int
    missing: tuple[str, ...]


async def missing(database: Database, objects: Objects) -> tuple[str, ...]:
    """Return the keys of rows whose object is gone, which nothing in this program makes happen."""
    known = await known_keys(database)
    return tuple(sorted(known - {found.key async for found in objects.own()}))


def clear_unfinished(objects: Objects, *, alone_in_folder: bool) -> None:
    """Remove files that were being written when their process died.

    alone_in_folder: no other process writes there, nor does this one yet.
    """
    spared = -1 if alone_in_folder else QUIET.total_seconds()
    if count := objects.clear_incoming(time.time() - spared):
        log.warning("Removed %d unfinished files.", count)


async def sweep(database: Database, objects: Objects, *, alone: bool) -> Swept:
    """Remove objects without a row.

    alone: no other process uses the store, nor does this one yet, so nothing young needs sparing.
    """
    newest = datetime.now(UTC) if alone else datetime.now(UTC) - GRACE
    # Objects first, rows second: an object gets its row after it was stored, so that one with a
    # row by now can have been listed without, but not the other way round.
    listed = {found.key: found.modified async for found in objects.own()}
    known = await known_keys(database)
    orphans = [
        key for key, modified in listed.items() if key not in known and (alone or modified < newest)
    ]
    await objects.discard(orphans)
    gone = tuple(sorted(known - listed.keys())) if alone else ()
    if orphans:
        log.warning("Removed %d orphans.", len(orphans))
    for key in gone:
        log.error("The object %s is gone from the store although a row refers to it.", key)
    return Swept(len(orphans), gone)


async def sweep_meanwhile(database: Database, objects: Objects) -> None:
    """Remove old objects without a row while others are made and read.

    A store elsewhere can hold millions, which take minutes to list. What goes wrong is logged: the
    next start tries again.
    """
    try:
        await sweep(database, objects, alone=False)
    except Exception:
        log.exception("The store could not be looked through for orphans.")
