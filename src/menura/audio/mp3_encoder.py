"""MP3 by LAME, behind the frame that tells players what to cut."""

import struct
from fractions import Fraction

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext

from menura.audio.encoder import BlockEncoder
from menura.audio.formats import OutputFormat
from menura.audio.mpeg import MPEG1_KBITS, MPEG1_RATES, MPEG2_KBITS, mpeg_audio_frame_size
from menura.engine.interface import Samples

_LAYER_3 = 1
"""What an MPEG header calls layer III."""
_LAME_DELAY = 576
_MP3_DELAY = _LAME_DELAY + 529
"""Samples by which a decoder's output is late: LAME's own delay and that of any MP3 decoder."""
_FEWEST_MP3_FRAMES = 3
"""Fewer are not recognised as MP3 by players that sniff."""


class Mp3Encoder(BlockEncoder):
    """LAME at a constant bit rate behind an Info frame.

    The Info frame tells players the encoder's delay, and its padding if the length is known, so
    that those who read it (FFmpeg, browsers, mpg123) play exactly the samples that went in.
    """

    def __init__(self, output_format: OutputFormat, total: int | None) -> None:
        block = 1152 if output_format.sample_rate >= 32000 else 576
        super().__init__(output_format, total, block)
        self.delay = 2 * block + _MP3_DELAY
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
        self._frames = 0

    @property
    def header(self) -> bytes:
        return _info_frame(self._format, self._block, self._total)

    def _encode(self, block: Samples) -> bytes:
        packets = self._context.encode(self._frame(block, "fltp"))
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


def _mp3_frames(samples: int, block: int) -> int:
    return max(_FEWEST_MP3_FRAMES, -(-(samples + _MP3_DELAY) // block))


def _info_frame(output_format: OutputFormat, block: int, total: int | None) -> bytes:
    """Return a silent MP3 frame with the "Info" tag of LAME.

    Fields after the tag: flags; the number of frames if known, else a number of bytes that is
    none; then LAME's extension with the delay and the padding in samples, 12 bits each. The frame
    has the stream's own bit rate: a player that finds no number of frames divides the file's size
    by the bit rate of its first frame.
    """
    mpeg1 = block == 1152
    kbits = output_format.bit_rate // 1000
    rate_index = MPEG1_RATES.index(output_format.sample_rate * (1 if mpeg1 else 2))
    kbits_index = (MPEG1_KBITS if mpeg1 else MPEG2_KBITS)[_LAYER_3].index(kbits)
    header = bytes((0xFF, 0xFB if mpeg1 else 0xF3, kbits_index << 4 | rate_index << 2, 0xC0))
    side_info = 17 if mpeg1 else 9
    if total is None:
        padding, tag = 0, struct.pack(">4sII", b"Info", 2, 0xFFFFFFFF)
    else:
        frames = _mp3_frames(total, block)
        padding = frames * block - _LAME_DELAY - total
        tag = struct.pack(">4sII", b"Info", 1, frames)
    extension = (
        b"LAME3.100"
        + bytes((0x01, 0))
        + bytes(8)
        + bytes((0, kbits))
        + (_LAME_DELAY << 12 | padding).to_bytes(3)
        + bytes(4)
    )
    body = bytes(side_info) + tag + extension
    return (header + body).ljust(mpeg_audio_frame_size(header), b"\0")
