"""The output formats of the contract, as data."""

from dataclasses import dataclass
from typing import Literal

Codec = Literal["mp3", "pcm", "ulaw", "alaw", "opus", "wav"]

DEFAULT_FORMAT = "mp3_44100_128"

_FILES: dict[Codec, tuple[str, str]] = {
    "mp3": ("audio/mpeg", "mp3"),
    "pcm": ("audio/pcm", "pcm"),
    "ulaw": ("audio/basic", "ulaw"),
    "alaw": ("audio/x-alaw-basic", "alaw"),
    "opus": ("audio/ogg", "ogg"),
    "wav": ("audio/wav", "wav"),
}
"""Media type of each codec's files, and their extension."""


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """One value of `output_format`. Every format is mono.

    sample_rate: Hz, the rate its encoder takes.
    bit_rate: bits per second of the encoded audio.
    """

    name: str
    codec: Codec
    sample_rate: int
    bit_rate: int

    @property
    def media_type(self) -> str:
        """What `content-type` says."""
        return _FILES[self.codec][0]

    @property
    def extension(self) -> str:
        """Of a file that holds it, without the dot."""
        return _FILES[self.codec][1]


def _compressed(codec: Codec, sample_rate: int, kbits: int) -> OutputFormat:
    return OutputFormat(f"{codec}_{sample_rate}_{kbits}", codec, sample_rate, kbits * 1000)


def _plain(codec: Codec, sample_rate: int, bits: int) -> OutputFormat:
    return OutputFormat(f"{codec}_{sample_rate}", codec, sample_rate, sample_rate * bits)


FORMATS: tuple[OutputFormat, ...] = (
    _compressed("mp3", 22050, 32),
    _compressed("mp3", 24000, 48),
    *(_compressed("mp3", 44100, kbits) for kbits in (32, 64, 96, 128, 192)),
    *(_plain("pcm", rate, 16) for rate in (8000, 16000, 22050, 24000, 32000, 44100, 48000)),
    _plain("ulaw", 8000, 8),
    _plain("alaw", 8000, 8),
    *(_compressed("opus", 48000, kbits) for kbits in (32, 64, 96, 128, 192)),
    *(_plain("wav", rate, 16) for rate in (8000, 16000, 22050, 24000, 32000, 44100, 48000)),
)
"""All 28 formats, in the contract's order."""

STREAM_FORMATS: tuple[OutputFormat, ...] = tuple(f for f in FORMATS if f.codec != "wav")
"""The 21 formats of `/stream`; convert offers all."""

_BY_NAME = {f.name: f for f in FORMATS}


def find_format(name: str) -> OutputFormat | None:
    """Return the format of that exact name, or None."""
    return _BY_NAME.get(name)
