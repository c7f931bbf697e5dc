"""The output formats of the contract, as data."""

from dataclasses import dataclass
from typing import Literal

Codec = Literal["mp3", "pcm", "ulaw", "alaw", "opus", "wav"]

DEFAULT_FORMAT = "mp3_44100_128"

_MEDIA_TYPES: dict[Codec, str] = {
    "mp3": "audio/mpeg",
    "pcm": "audio/pcm",
    "ulaw": "audio/basic",
    "alaw": "audio/x-alaw-basic",
    "opus": "audio/ogg",
    "wav": "audio/wav",
}

_EXTENSIONS: dict[Codec, str] = {
    "mp3": "mp3",
    "pcm": "pcm",
    "ulaw": "ulaw",
    "alaw": "alaw",
    "opus": "ogg",
    "wav": "wav",
}


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """One value of `output_format`. Every format is mono.

    sample_rate: Hz, the rate its encoder takes.
    bit_rate: bits per second of the encoded audio.
    extension: of a file that holds it, without the dot.
    on_stream: whether `/stream` offers it; convert offers all of them.
    """

    name: str
    codec: Codec
    sample_rate: int
    bit_rate: int
    media_type: str
    extension: str
    on_stream: bool


def _format(codec: Codec, sample_rate: int, bit_rate: int, name: str) -> OutputFormat:
    return OutputFormat(
        name=name,
        codec=codec,
        sample_rate=sample_rate,
        bit_rate=bit_rate,
        media_type=_MEDIA_TYPES[codec],
        extension=_EXTENSIONS[codec],
        on_stream=codec != "wav",
    )


def _compressed(codec: Codec, sample_rate: int, kbits: int) -> OutputFormat:
    return _format(codec, sample_rate, kbits * 1000, f"{codec}_{sample_rate}_{kbits}")


def _plain(codec: Codec, sample_rate: int, bits: int) -> OutputFormat:
    return _format(codec, sample_rate, sample_rate * bits, f"{codec}_{sample_rate}")


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

STREAM_FORMATS: tuple[OutputFormat, ...] = tuple(f for f in FORMATS if f.on_stream)
"""The 21 formats of `/stream`."""

_BY_NAME = {f.name: f for f in FORMATS}


def find_format(name: str) -> OutputFormat | None:
    """Return the format of that exact name, or None."""
    return _BY_NAME.get(name)
