"""A history with its database and object store, and items to fill it with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from tests.accounts.house import House, house

from menura.accounts import Charge, Principal
from menura.audio.encode import open_encoder
from menura.audio.formats import OutputFormat, find_format
from menura.history import History, NewItem
from menura.storage.objects import Objects
from menura.storage.tables import HistoryItem


class Room(House):
    """A house with a history."""

    objects: Objects
    history: History
    caller_: Principal

    async def add(
        self,
        audio: bytes = b"audio",
        *,
        voice_id: str = "voice1",
        voice_name: str = "Ada",
        model_id: str = "eleven_english_sts_v2",
        output_format: str = "mp3_44100_128",
        caller: Principal | None = None,
        amount: int = 10,
    ) -> HistoryItem:
        """Add an item as a conversion does."""
        who = caller or self.caller_
        recording = self.history.begin()
        recording.write(audio)
        request_id = f"request{recording.history_item_id[-8:]}"
        made_as = find_format(output_format)
        assert made_as is not None
        item = NewItem(
            account_id=who.account_id,
            request_id=request_id,
            voice_id=voice_id,
            voice_name=voice_name,
            voice_category="premade",
            model_id=model_id,
            content_type=made_as.media_type,
            output_format=output_format,
            settings={"stability": 0.5},
        )
        charge = Charge(who, request_id, amount, 0.6, "speech_to_speech")
        return await self.history.commit(recording, item, charge)


@asynccontextmanager
async def room(folder: Path) -> AsyncIterator[Room]:
    """Open a data folder with a history."""
    async with house(folder) as opened:
        found = Room(opened.settings, opened.database, opened.accounts)
        found.objects = Objects.of(opened.settings)
        found.history = History(opened.database, found.objects, opened.accounts.credits)
        found.caller_ = await opened.caller()
        yield found


def tone(made_as: OutputFormat, seconds: float = 0.5) -> bytes:
    """Return half a second of a 440 Hz tone as a file of this format."""
    count = int(seconds * made_as.sample_rate)
    samples = 0.5 * np.sin(2 * np.pi * 440 * np.arange(count) / made_as.sample_rate)
    encoder = open_encoder(made_as, count)
    return encoder.push(samples.astype(np.float32)) + encoder.finish()
