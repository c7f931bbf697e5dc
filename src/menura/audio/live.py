"""Decoders for live audio, pushed instead of pulled: bytes arrive in messages of any size."""

from typing import Literal, Protocol, get_args

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.packet import Packet

from menura import errors
from menura.audio import g711
from menura.audio.frames import mono_frame
from menura.audio.level import to_float
from menura.engine.interface import EMPTY, Samples

LiveEncoding = Literal["s16le", "f32le", "ulaw", "opus"]

LIVE_ENCODINGS: tuple[LiveEncoding, ...] = get_args(LiveEncoding)

FIXED_RATES: dict[LiveEncoding, int] = {"ulaw": 8_000, "opus": 48_000}
_MIN_RATE, _MAX_RATE = 8_000, 48_000
_LONGEST_PACKET = 61_440


class LiveDecoder(Protocol):
    """One mono stream in one encoding."""

    @property
    def sample_rate(self) -> int:
        """Hz."""
        ...

    def push(self, data: bytes) -> Samples:
        """Take a message in and return its samples.

        Half a sample waits for the next message; of "opus" a message is one packet, and an empty
        one gives nothing. Raises InvalidAudio for a packet that is not Opus; the stream can go on.
        """
        ...


def open_live_decoder(encoding: LiveEncoding, sample_rate: int) -> LiveDecoder:
    """Start a stream.

    sample_rate: Hz; 8000 to 48000 for "s16le" and "f32le", 8000 for "ulaw", 48000 for "opus".

    Raises InvalidParameters for another encoding or rate.
    """
    if encoding not in LIVE_ENCODINGS:
        raise errors.InvalidParameters(
            f"The encoding {encoding!r} is not one of {', '.join(LIVE_ENCODINGS)}.", param="input"
        )
    fixed = FIXED_RATES.get(encoding)
    if fixed is not None and sample_rate != fixed:
        raise errors.InvalidParameters(
            f"The encoding {encoding} needs a sample_rate of {fixed}, not {sample_rate}.",
            param="input",
        )
    if not _MIN_RATE <= sample_rate <= _MAX_RATE:
        raise errors.InvalidParameters(
            f"sample_rate must be {_MIN_RATE} to {_MAX_RATE}, not {sample_rate}.", param="input"
        )
    if encoding == "opus":
        return _OpusPackets(sample_rate)
    return _PlainSamples(encoding, sample_rate)


class _PlainSamples:
    def __init__(self, encoding: LiveEncoding, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._encoding = encoding
        self._size = {"s16le": 2, "f32le": 4}.get(encoding, 1)
        self._rest = b""

    def push(self, data: bytes) -> Samples:
        data = self._rest + data
        whole = len(data) // self._size * self._size
        self._rest = data[whole:]
        if self._encoding == "ulaw":
            return g711.ulaw_decode(data)
        kind = "<i2" if self._encoding == "s16le" else "<f4"
        return to_float(np.frombuffer(data, kind, whole // self._size))


class _OpusPackets:
    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        context = av.CodecContext.create("libopus", "r")
        assert isinstance(context, AudioCodecContext)
        context.sample_rate = sample_rate
        context.layout = "mono"
        self._context = context

    def push(self, data: bytes) -> Samples:
        if not data:
            return EMPTY
        try:
            if len(data) > _LONGEST_PACKET:
                raise ValueError(data)
            frames = self._context.decode(Packet(data))
        except (av.error.FFmpegError, ValueError):
            raise errors.InvalidAudio(
                f"A message of {len(data)} bytes is not an Opus packet.", param="audio"
            ) from None
        return np.concatenate([EMPTY, *map(mono_frame, frames)])
