"""Items of the history as files to keep: one audio file, or a zip of several."""

import asyncio
import io
import time
import zipfile
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from menura.audio.formats import find_format
from menura.audio.wav_header import wav_size
from menura.history.wav import to_wav
from menura.storage.objects import CHUNK, Objects
from menura.storage.tables import HistoryItem

ZIP_EPOCH = 315_532_800
"""Unix seconds of 1980, before which a zip file knows no time."""

_WAV_WORKERS = ThreadPoolExecutor(2, "wav")
"""Threads besides the event loop's own few, which store what anybody converts: an hour of audio
takes one for long."""


def extension(item: HistoryItem, *, as_wav: bool) -> str:
    """Return the ending of the item's file name, without the dot."""
    made_as = find_format(item.output_format)
    return "wav" if as_wav else made_as.extension if made_as else "bin"


async def audio(objects: Objects, item: HistoryItem, *, as_wav: bool) -> AsyncIterator[bytes]:
    """Yield an item's audio as it was made, or as WAV."""
    made_as = find_format(item.output_format)
    if not as_wav or made_as is None or made_as.codec == "wav":
        async for piece in objects.stream(item.object_key):
            yield piece
        return
    async with objects.local(item.object_key) as path:
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(_WAV_WORKERS, to_wav, path, made_as)
    try:
        while piece := await asyncio.to_thread(file.read, CHUNK):
            yield piece
    finally:
        with suppress(OSError):
            file.close()


async def zip_of(
    objects: Objects, items: Sequence[HistoryItem], *, as_wav: bool
) -> AsyncIterator[bytes]:
    """Yield a zip file with one entry per item, made as it is sent, in constant memory.

    Nothing is compressed, since audio is already. But the entries are said to be: of what is merely
    stored, a program that reads as the bytes arrive cannot find the end.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for item in items:
            name = f"{item.history_item_id}.{extension(item, as_wav=as_wav)}"
            made = time.gmtime(max(item.created_at, ZIP_EPOCH))
            entry = zipfile.ZipInfo(name, made[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            # Public from Python 3.13 on, as compress_level.
            entry._compresslevel = 0  # type: ignore[attr-defined]
            pieces = audio(objects, item, as_wav=as_wav)
            first = await anext(pieces, b"")
            # What is beyond 2 GiB is written in another form, which such programs do not know.
            stored = await objects.size(item.object_key)
            entry.file_size = max(stored, wav_size(first)) if as_wav else stored
            with archive.open(entry, "w") as file:
                file.write(first)
                async for piece in pieces:
                    file.write(piece)
                    if sink.pending >= CHUNK:
                        yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """Where the zip module writes; what it wrote is taken out again at once."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self.pending = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._pieces.append(bytes(data))
        self.pending += len(data)
        return len(data)

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        self.pending = 0
        return taken
