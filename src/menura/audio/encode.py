"""From mono samples to any output format, streamed: one encoder and one header for each stream."""

import io
import struct
from fractions import Fraction
from typing import Protocol

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from menura.audio import g711
from menura.audio.formats import OutputFormat
from menura.audio.level import bounded, to_int16
from menura.audio.sniff import mpeg_audio_frame_size
from menura.engine.interface import Samples


class Encoder(Protocol):
    """One stream in one output format; any chunking of the samples gives the same bytes."""

    @property
    def sample_rate(self) -> int:
        """The rate in Hz of the samples it takes."""
        ...

    @property
    def delay(self) -> int:
        """Samples at most that were pushed and cannot be decoded from the bytes given so far."""
        ...

    @property
    def header(self) -> bytes:
        """The bytes that the stream begins with; empty for a format without any.

        After `finish` it says the true length. It never changes its size, so whoever kept the
        whole stream may write it over the stream's beginning if `total` was not known.
        """
        ...

    def push(self, samples: Samples) -> bytes:
        """Take samples in and return the bytes that have become final, whole samples only."""
        ...

    def finish(self) -> bytes:
        """End the stream and return the remaining bytes. The object is spent afterwards.

        Raises ValueError if a `total` was promised and another number of samples came.
        """
        ...


def open_encoder(output_format: OutputFormat, total: int | None = None) -> Encoder:
    """Start a stream.

    total: number of samples that will come, if it is known: headers then say it from the start.
    """
    if output_format.codec == "mp3":
        return _Mp3Encoder(output_format, total)
    if output_format.codec == "opus":
        return _OpusEncoder(output_format, total)
    return _PlainEncoder(output_format, total)


def wav_header(sample_rate: int, samples: int | None) -> bytes:
    """Return the 44 bytes before 16-bit mono samples; None writes the sizes of a live stream."""
    size = 0xFFFFFFFF if samples is None else min(2 * samples, 0xFFFFFFFF)
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        min(size + 36, 0xFFFFFFFF),
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        sample_rate,
        2 * sample_rate,
        2,
        16,
        b"data",
        size,
    )


class _Counted:
    """What every encoder keeps: how many samples came, and whether the header was given."""

    def __init__(self, output_format: OutputFormat, total: int | None) -> None:
        self.sample_rate = output_format.sample_rate
        self._format = output_format
        self._total = total
        self._taken = 0
        self._begun = False

    @property
    def header(self) -> bytes:
        return b""

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self.header

    def _end(self) -> None:
        if self._total is not None and self._total != self._taken:
            raise ValueError(f"{self._total} samples were promised and {self._taken} came")
        self._total = self._taken


class _PlainEncoder(_Counted):
    """One code for each sample: PCM, mu-law, A-law, and PCM behind a WAV header."""

    delay = 0

    @property
    def header(self) -> bytes:
        if self._format.codec != "wav":
            return b""
        return wav_header(self.sample_rate, self._total)

    def push(self, samples: Samples) -> bytes:
        self._taken += samples.size
        codes = to_int16(samples)
        begin = self._begin()
        if self._format.codec == "ulaw":
            return g711.ulaw_encode(codes)
        if self._format.codec == "alaw":
            return g711.alaw_encode(codes)
        return begin + codes.astype("<i2").tobytes()

    def finish(self) -> bytes:
        begin = self._begin()
        self._end()
        return begin


class _BlockEncoder(_Counted):
    """Gathers samples into the codec's blocks."""

    def __init__(self, output_format: OutputFormat, total: int | None, block: int) -> None:
        super().__init__(output_format, total)
        self._block = block
        self._pending: Samples = np.zeros(0, np.float32)

    def push(self, samples: Samples) -> bytes:
        self._taken += samples.size
        parts = [self._begin()]
        self._pending = np.concatenate((self._pending, np.clip(bounded(samples), -1, 1)))
        while self._pending.size >= self._block:
            parts.append(self._encode(self._pending[: self._block]))
            self._pending = self._pending[self._block :]
        return b"".join(parts)

    def _encode(self, block: Samples) -> bytes:
        raise NotImplementedError

    def _frame(self, block: Samples, layout: str, at: int) -> AudioFrame:
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), layout, "mono")
        frame.sample_rate = self.sample_rate
        frame.pts = at
        frame.time_base = Fraction(1, self.sample_rate)
        return frame


class _Mp3Encoder(_BlockEncoder):
    """LAME at a constant bit rate behind an Info frame.

    The Info frame tells players the encoder's delay, and its padding if the length is known, so
    that those who read it (FFmpeg, browsers, mpg123) play exactly the samples that went in.
    """

    def __init__(self, output_format: OutputFormat, total: int | None) -> None:
        block = 1152 if output_format.sample_rate >= 32000 else 576
        super().__init__(output_format, total, block)
        context = av.CodecContext.create("libmp3lame", "w")
        assert isinstance(context, AudioCodecContext)
        context.sample_rate = output_format.sample_rate
        context.bit_rate = output_format.bit_rate
        context.format = "fltp"
        context.layout = "mono"
        context.time_base = Fraction(1, output_format.sample_rate)
        # Without the reservoir a frame leaves at once instead of up to six frames later.
        context.options = {"reservoir": "0"}
        context.open()
        self._context = context
        self._sent = 0
        self._frames = 0

    @property
    def delay(self) -> int:
        return 2 * self._block + _MP3_DELAY

    @property
    def header(self) -> bytes:
        return _info_frame(self._format, self._block, self._total)

    def _encode(self, block: Samples) -> bytes:
        packets = self._context.encode(self._frame(block, "fltp", self._sent))
        self._sent += block.size
        self._frames += len(packets)
        return b"".join(map(bytes, packets))

    def finish(self) -> bytes:
        begin = self._begin()
        self._end()
        needed = _mp3_frames(self._taken, self._block)
        parts = [begin]
        while self._frames < needed:
            padded = np.zeros(self._block, np.float32)
            padded[: self._pending.size] = self._pending
            self._pending = self._pending[:0]
            parts.append(self._encode(padded))
        return b"".join(parts)


_LAME_DELAY = 576
_MP3_DELAY = _LAME_DELAY + 529
"""Samples by which a decoder's output is late: LAME's own delay and that of any MP3 decoder."""


_FEWEST_MP3_FRAMES = 3
"""Fewer are not recognised as MP3 by players that sniff."""


def _mp3_frames(samples: int, block: int) -> int:
    return max(_FEWEST_MP3_FRAMES, -(-(samples + _MP3_DELAY) // block))


def _info_frame(output_format: OutputFormat, block: int, total: int | None) -> bytes:
    """Return a silent MP3 frame with the "Info" tag of LAME.

    Fields after the tag: flags, number of frames if known; then LAME's extension with the delay
    and the padding in samples, 12 bits each. The frame has the stream's own bit rate: a player
    that finds no number of frames divides the file's size by the bit rate of its first frame.
    """
    mpeg1 = block == 1152
    rates = (44100, 48000, 32000) if mpeg1 else (22050, 24000, 16000)
    first = bytes((0xFF, 0xFB if mpeg1 else 0xF3))
    rate_bits = rates.index(output_format.sample_rate) << 2
    side_info = 17 if mpeg1 else 9
    frames = 0 if total is None else _mp3_frames(total, block)
    padding = 0 if total is None else frames * block - _LAME_DELAY - total
    tag = b"Info" + struct.pack(">I", 1) + struct.pack(">I", frames)
    if total is None:
        tag = b"Info" + struct.pack(">II", 2, 0xFFFFFFFF)
    extension = (
        b"LAME3.100"
        + bytes((0x01, 0))
        + bytes(8)
        + bytes((0, min(255, output_format.bit_rate // 1000)))
        + (_LAME_DELAY << 12 | padding).to_bytes(3)
        + bytes(4)
    )
    body = bytes(side_info) + tag + extension
    least = max(
        4 + len(body) + 12, block // 8 * output_format.bit_rate // output_format.sample_rate
    )
    for index in range(1, 15):
        header = first + bytes((index << 4 | rate_bits, 0xC0))
        size = mpeg_audio_frame_size(header)
        if size >= least:
            return (header + body).ljust(size, b"\0")
    raise AssertionError("no bit rate gives a frame that holds the tag")


class _Sink(io.RawIOBase):
    """Collects what a muxer writes until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


class _OpusEncoder(_BlockEncoder):
    """Opus in Ogg, a page for each 20 ms packet; the pages' positions make the length exact."""

    delay = 2 * 960 + 312

    def __init__(self, output_format: OutputFormat, total: int | None) -> None:
        super().__init__(output_format, total, output_format.sample_rate // 50)
        self._sink = _Sink()
        self._container = av.open(
            self._sink,
            "w",
            format="ogg",
            container_options={
                "page_duration": "20000",
                "flush_packets": "1",
                "fflags": "+bitexact",
            },
        )
        stream = self._container.add_stream(
            "libopus",
            rate=output_format.sample_rate,
            options={"frame_duration": "20", "vbr": "constrained", "application": "audio"},
            layout="mono",
            format="flt",
            bit_rate=output_format.bit_rate,
        )
        assert isinstance(stream, AudioStream)
        self._stream = stream
        self._sent = 0

    def _encode(self, block: Samples) -> bytes:
        self._container.mux(self._stream.encode(self._frame(block, "flt", self._sent)))
        self._sent += block.size
        return self._sink.take()

    def finish(self) -> bytes:
        self._end()
        self._container.start_encoding()
        rest = self._encode(self._pending) if self._pending.size else b""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return rest + self._sink.take()
