"""Stored audio of every format becomes a WAV file of the same length and sound."""

import asyncio
import io
import wave
from pathlib import Path

import numpy as np
import pytest
from tests.history.rooms import room, tone

from menura.audio.formats import FORMATS, OutputFormat


@pytest.mark.parametrize("made_as", FORMATS, ids=lambda made_as: made_as.name)
def test_an_item_downloads_as_wav(tmp_path: Path, made_as: OutputFormat) -> None:
    async def work() -> bytes:
        async with room(tmp_path) as opened:
            item = await opened.add(tone(made_as), output_format=made_as.name)
            found = await opened.history.download(
                opened.caller_.account_id, [item.history_item_id], as_wav=True
            )
            assert found.media_type == "audio/wav"
            assert found.file_name.endswith(".wav")
            return b"".join([piece async for piece in found.content])

    with wave.open(io.BytesIO(asyncio.run(work()))) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        assert file.getframerate() == made_as.sample_rate
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    frame = {"mp3": 1152, "opus": 960}.get(made_as.codec, 0)
    assert abs(len(samples) - made_as.sample_rate // 2) <= frame
    level = float(np.sqrt(np.mean(samples[len(samples) // 4 : len(samples) // 2] ** 2)))
    assert level == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
