"""Stored audio as a WAV file, whatever format it was made in."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from menura.audio.decode import open_decoder
from menura.audio.formats import OutputFormat
from menura.audio.g711 import alaw_decode, ulaw_decode
from menura.audio.level import to_int16
from menura.audio.wav_header import wav_header
from menura.storage.objects import CHUNK
from menura.storage.room import room_needed


def to_wav(source: Path, made_as: OutputFormat) -> IO[bytes]:
    """Return an unnamed file at its start that holds the audio as 16-bit WAV. Blocks.

    source: audio of the format `made_as`; the rate stays. Memory is constant.
    Raises OSError, Unavailable when the disk is full, and InvalidAudio when the file is damaged.
    """
    with room_needed():
        target: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  handed to the caller
        try:
            target.write(wav_header(made_as.sample_rate, 0))
            count = 0
            for samples in _pieces(source, made_as):
                count += len(samples) // 2
                target.write(samples)
            target.seek(0)
            target.write(wav_header(made_as.sample_rate, count))
            target.seek(0)
        except BaseException:
            target.close()
            raise
    return target


def _pieces(source: Path, made_as: OutputFormat) -> Iterator[bytes]:
    """Yield little-endian 16-bit samples."""
    with source.open("rb") as file:
        if made_as.codec in ("pcm", "ulaw", "alaw"):
            while data := file.read(CHUNK):
                if made_as.codec == "ulaw":
                    data = to_int16(ulaw_decode(data)).astype("<i2").tobytes()
                elif made_as.codec == "alaw":
                    data = to_int16(alaw_decode(data)).astype("<i2").tobytes()
                yield data
            return
        decoder = open_decoder(file)
        try:
            while len(samples := decoder.read()):
                yield to_int16(samples).astype("<i2").tobytes()
        finally:
            decoder.close()
