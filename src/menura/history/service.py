"""The history of conversions: an item exists exactly if its audio was stored whole.

    recording = history.begin()               # item id fixed; nothing exists yet
    recording.write(encoded)                  # from the stream's thread
    item = await history.commit(recording, NewItem(...), charge)

`commit` stores the audio first and then, in one transaction, the item and its charge. Deleting
removes the row first. Whatever a crash leaves in between is an object without a row, which
`storage.sweep` removes at the next start.
"""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Select, delete, false, select
from sqlalchemy.ext.asyncio import AsyncSession

from menura.accounts.credits import Charge, Credits
from menura.engine.registry import ids_of
from menura.errors import (
    HistoryItemNotFound,
    InvalidCursor,
    InvalidPageSize,
    MissingRequiredField,
)
from menura.history.download import audio, extension, zip_of
from menura.history.item_id import is_item_id, new_item_id
from menura.storage.database import Database
from menura.storage.objects import ObjectMissing, Objects, ObjectWriter
from menura.storage.orphans import Unowned
from menura.storage.tables import HistoryItem, StoredObject
from menura.storage.text import is_storable

MAX_PAGE = 1000
MAX_TIME = 2**63 - 1
MAX_SEARCH = 1_000
"""Characters beyond which nothing is looked for: no voice has so long a name."""

Direction = Literal["asc", "desc"]


def check_page_size(page_size: int) -> None:
    """Raise InvalidPageSize unless so many items may be asked for at once."""
    if not 1 <= page_size <= MAX_PAGE:
        raise InvalidPageSize(
            f"page_size must be 1 to {MAX_PAGE}, not {page_size}.", param="page_size"
        )


class Recording:
    """A history item in the making. `write` belongs to one thread, the rest to the event loop."""

    def __init__(self, writer: ObjectWriter) -> None:
        self.created_at = time.time()
        self.history_item_id = new_item_id(self.created_at)
        self.writer = writer

    def write(self, data: bytes) -> None:
        """Append encoded audio. Raises OSError, and Unavailable when the disk is full."""
        self.writer.write(data)

    def abandon(self) -> None:
        """Leave no trace. Harmless after `History.commit`, so it may stand in a `finally`."""
        self.writer.abandon()


@dataclass(frozen=True, slots=True)
class NewItem:
    """What an item tells about its conversion. settings: the effective voice settings."""

    account_id: str
    request_id: str
    voice_id: str
    voice_name: str
    voice_category: str
    model_id: str
    content_type: str
    output_format: str
    settings: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Filters of a listing; null means any. before is exclusive, after inclusive (Unix s)."""

    page_size: int = 100
    start_after: str | None = None
    voice_ids: Sequence[str] | None = None
    model_id: str | None = None
    before: int | None = None
    after: int | None = None
    direction: Direction = "desc"
    search: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Items of a listing, and whether more follow."""

    items: Sequence[HistoryItem]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Download:
    """A file to keep."""

    file_name: str
    media_type: str
    content: AsyncIterator[bytes]


class History:
    """The items of all accounts; each account sees only its own."""

    def __init__(self, database: Database, objects: Objects, counters: Credits) -> None:
        self._database = database
        self._objects = objects
        self._credits = counters

    def begin(self) -> Recording:
        """Start an item, from any thread. Not to be called under zero retention."""
        return Recording(self._objects.open_writer())

    async def commit(self, recording: Recording, item: NewItem, charge: Charge) -> HistoryItem:
        """Make the item exist, and charge for it, both or neither."""
        async with Unowned(self._database, self._objects) as unowned:
            stored = await unowned.keep("history", recording.writer)
            async with self._database.writing(durable=True) as session:
                charged = await self._credits.charge_within(session, charge)
                session.add(stored)
                await session.flush()
                row = HistoryItem(
                    history_item_id=recording.history_item_id,
                    account_id=item.account_id,
                    request_id=item.request_id,
                    created_at=int(recording.created_at),
                    source="STS",
                    voice_id=item.voice_id,
                    voice_name=item.voice_name,
                    voice_category=item.voice_category,
                    model_id=item.model_id,
                    characters_from=charged.before,
                    characters_to=charged.after,
                    content_type=item.content_type,
                    output_format=item.output_format,
                    settings=item.settings,
                    object_key=stored.key,
                )
                session.add(row)
            unowned.hand_over()
        return row

    async def list(self, account_id: str, query: HistoryQuery) -> Page:
        """Return one page. Raises InvalidPageSize, InvalidCursor, MissingRequiredField."""
        check_page_size(query.page_size)
        if query.start_after is not None and not is_item_id(query.start_after):
            raise InvalidCursor(
                f"{query.start_after[:64]!r} is not a history item id.",
                param="start_after_history_item_id",
            )
        if query.search is not None and query.source is None:
            raise MissingRequiredField(
                "The parameter search needs source as well, for example source=STS.", param="source"
            )
        async with self._database.reading() as session:
            found = await session.scalars(_selection(account_id, query))
            rows = found.all()
        return Page(rows[: query.page_size], len(rows) > query.page_size)

    async def get(self, account_id: str, history_item_id: str) -> HistoryItem:
        """Return an item. Raises HistoryItemNotFound."""
        async with self._database.reading() as session:
            return await _own(session, account_id, history_item_id)

    async def delete(self, account_id: str, history_item_id: str) -> None:
        """Remove an item, its audio at once. Raises HistoryItemNotFound."""
        async with self._database.writing(durable=True) as session:
            # Locked, so that of two who delete it at once only one does.
            row = await _own(session, account_id, history_item_id, locked=True)
            await session.delete(row)
            await session.flush()
            await session.execute(delete(StoredObject).where(StoredObject.key == row.object_key))
        await self._objects.discard([row.object_key])

    async def size(self, item: HistoryItem) -> int:
        """Return the number of bytes of an item's audio. Raises HistoryItemNotFound."""
        try:
            return await self._objects.size(item.object_key)
        except ObjectMissing:
            # Deleted since the row was read.
            raise unknown_item(item.history_item_id) from None

    def audio(
        self, item: HistoryItem, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield an item's audio, as it was made, from byte `start` to `end` (exclusive)."""
        return self._objects.stream(item.object_key, start, end)

    async def download(
        self, account_id: str, history_item_ids: Sequence[str], *, as_wav: bool
    ) -> Download:
        """Return one item's audio, or a zip of several. Raises HistoryItemNotFound."""
        wanted = tuple(dict.fromkeys(history_item_ids))
        items = [await self.get(account_id, wanted_id) for wanted_id in wanted]
        if len(items) > 1:
            content = zip_of(self._objects, items, as_wav=as_wav)
            return Download("history.zip", "application/zip", content)
        item = items[0]
        await self.size(item)
        return Download(
            f"{item.history_item_id}.{extension(item, as_wav=as_wav)}",
            "audio/wav" if as_wav else item.content_type,
            audio(self._objects, item, as_wav=as_wav),
        )


async def _own(
    session: AsyncSession, account_id: str, history_item_id: str, *, locked: bool = False
) -> HistoryItem:
    row = None
    if is_item_id(history_item_id):
        row = await session.get(HistoryItem, history_item_id, with_for_update=locked)
    # Another account's item is not told from none at all.
    if row is None or row.account_id != account_id:
        raise unknown_item(history_item_id)
    return row


def _selection(account_id: str, query: HistoryQuery) -> Select[HistoryItem]:
    newest_first = query.direction == "desc"
    column = HistoryItem.history_item_id
    selected = select(HistoryItem).where(HistoryItem.account_id == account_id)
    if query.start_after is not None:
        after = query.start_after
        selected = selected.where(column < after if newest_first else column > after)
    if query.voice_ids is not None:
        selected = selected.where(HistoryItem.voice_id.in_(filter(is_storable, query.voice_ids)))
    if query.model_id is not None:
        models = filter(is_storable, ids_of(query.model_id))
        selected = selected.where(HistoryItem.model_id.in_(models))
    if query.before is not None:
        selected = selected.where(HistoryItem.created_at < _storable(query.before))
    if query.after is not None:
        selected = selected.where(HistoryItem.created_at >= _storable(query.after))
    if query.source is not None:
        selected = selected.where(HistoryItem.source == query.source)
    if query.search is not None:
        found = HistoryItem.voice_name.icontains(query.search, autoescape=True)
        # LIKE cannot read what is longer than any name, and stops at a character that none has.
        can_be = len(query.search) <= MAX_SEARCH and is_storable(query.search)
        selected = selected.where(found if can_be else false())
    order = column.desc() if newest_first else column.asc()
    return selected.order_by(order).limit(query.page_size + 1)


def _storable(moment: int) -> int:
    return max(-MAX_TIME, min(MAX_TIME, moment))


def unknown_item(history_item_id: str) -> HistoryItemNotFound:
    """Return the refusal of an id that is no item's, or no item's that the caller may see."""
    return HistoryItemNotFound(
        f"There is no history item {history_item_id[:64]!r}.", param="history_item_id"
    )
