"""Objects that no row owns: not yet, or no longer.

async with Unowned(database, objects) as unowned:
    model = await unowned.put("models", data)
    ...                     # a transaction inserts the StoredObject and what refers to it
    unowned.hand_over()
"""

import asyncio
from collections.abc import Sequence

from sqlalchemy import select

from menura.storage.database import Database
from menura.storage.objects import Objects, ObjectWriter, new_key
from menura.storage.tables import StoredObject


class Unowned:
    """Objects whose rows are yet to come. What was not handed over is removed at the end.

    writers: of recordings that are not even objects yet; they are abandoned likewise.
    """

    def __init__(
        self, database: Database, objects: Objects, writers: Sequence[ObjectWriter] = ()
    ) -> None:
        self._database = database
        self._objects = objects
        self._writers = writers
        self._keys: list[str] = []

    async def keep(self, kind: str, writer: ObjectWriter) -> StoredObject:
        """Turn what was written into an object of that kind and return the row it wants."""
        key = self._new_key(kind)
        size, sha256 = await self._objects.keep(writer, key)
        return StoredObject(key=key, size=size, sha256=sha256)

    async def put(self, kind: str, data: bytes) -> StoredObject:
        """Store data as an object of that kind and return the row it wants."""
        key = self._new_key(kind)
        size, sha256 = await self._objects.put(key, data)
        return StoredObject(key=key, size=size, sha256=sha256)

    def hand_over(self) -> None:
        """Take note that the rows have been committed."""
        self._keys.clear()

    def _new_key(self, kind: str) -> str:
        key = new_key(kind)
        self._keys.append(key)
        return key

    async def __aenter__(self) -> "Unowned":
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.abandon()
        if self._keys:
            await asyncio.shield(asyncio.ensure_future(self._remove_orphans()))

    async def _remove_orphans(self) -> None:
        # A transaction that was interrupted may have been committed all the same.
        async with self._database.reading() as session:
            owned = set(
                await session.scalars(
                    select(StoredObject.key).where(StoredObject.key.in_(self._keys))
                )
            )
        await self._objects.discard([key for key in self._keys if key not in owned])
