"""A streaming reader of WAV files: the first samples as soon as the header is in.

FFmpeg's own reader waits for far more of a slow upload. Anything but plain samples (PCM, float,
mu-law, A-law) is left to it: `open_wav` returns None.
"""

import struct
from dataclasses import dataclass

import numpy as np

from menura import errors
from menura.audio import g711
from menura.audio.level import mono, to_float
from menura.audio.shape import check_shape
from menura.audio.source import Source, read_exactly, skip
from menura.engine.interface import EMPTY, Samples

PCM, FLOAT, ALAW, MULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE

_UNKNOWN_SIZE = 0xFFFFFFFF
_SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_BLOCK_SIZE = 16_384
_LARGEST_CHUNK_KEPT = 4096


@dataclass(frozen=True, slots=True)
class WavFormat:
    """What a `fmt ` chunk says. frame_size: bytes of one sample of every channel."""

    tag: int
    channels: int
    sample_rate: int
    bits: int
    frame_size: int


class PcmReader:
    """Blocks of mono samples from headerless interleaved samples.

    left: bytes of audio still to come, None for all that the source has.
    """

    def __init__(self, source: Source, fmt: WavFormat, left: int | None = None) -> None:
        self.sample_rate = fmt.sample_rate
        self._source = source
        self._format = fmt
        self._left = left
        self._rest = b""

    def read(self) -> Samples:
        """Return the next block, empty at the end. Half a frame at the end is dropped."""
        frame_size = self._format.frame_size
        while True:
            size = max(frame_size, _BLOCK_SIZE // frame_size * frame_size)
            data = self._rest + self._more(size - len(self._rest))
            if len(data) == len(self._rest):
                return EMPTY
            whole = len(data) // frame_size * frame_size
            self._rest = data[whole:]
            if whole:
                return self._samples(data[:whole])

    def _more(self, size: int) -> bytes:
        if self._left is None:
            return self._source.read(size)
        data = self._source.read(min(size, self._left)) if self._left else b""
        self._left -= len(data)
        if self._left == 0 and data:
            self._left = self._continuation()
        return data

    def _continuation(self) -> int | None:
        """Decide what follows a data chunk: another chunk or the end (0), or more audio (None).

        Writers that were stopped leave sizes that are too small; audio goes on where no chunk
        begins.
        """
        here = self._source.tell()
        following = read_exactly(self._source, 9)
        self._source.seek(here)
        if len(following) < 2 or any(_is_chunk(following[at:]) for at in (0, 1)):
            return 0
        return None

    def _samples(self, data: bytes) -> Samples:
        fmt = self._format
        if fmt.tag == MULAW:
            values = g711.ulaw_decode(data)
        elif fmt.tag == ALAW:
            values = g711.alaw_decode(data)
        elif fmt.tag == FLOAT:
            values = to_float(np.frombuffer(data, f"<f{fmt.bits // 8}"))
        elif fmt.bits == 24:
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            values = to_float(wide.view("<i4")[:, 0])
        elif fmt.bits == 8:
            values = to_float(np.frombuffer(data, np.uint8))
        else:
            values = to_float(np.frombuffer(data, f"<i{fmt.bits // 8}"))
        return mono(values.reshape(-1, fmt.channels))


def _is_chunk(data: bytes) -> bool:
    """Whether a chunk can begin with these bytes: four letters and a size."""
    return len(data) >= 8 and all(0x20 <= byte < 0x7F for byte in data[:4]) and data[7] < 0x80


def _parse_format(data: bytes) -> WavFormat | None:
    """Read a `fmt ` chunk; None when its samples are not plain."""
    if len(data) < 14:
        raise errors.InvalidAudio("The WAV file's format chunk is too short.", param="audio")
    tag, channels, rate, _, frame_size = struct.unpack_from("<HHIIH", data)
    container = struct.unpack_from("<H", data, 14)[0] if len(data) >= 16 else 8
    if tag == EXTENSIBLE:
        if len(data) < 40 or data[26:40] != _SUBFORMAT_TAIL:
            return None
        tag = struct.unpack_from("<H", data, 24)[0]
    bits = (container + 7) // 8 * 8
    widths = {PCM: (8, 16, 24, 32, 64), FLOAT: (32, 64), ALAW: (8,), MULAW: (8,)}
    if tag not in widths:
        return None
    check_shape(rate, channels)
    if bits not in widths[tag]:
        raise errors.InvalidAudio(
            f"The WAV file declares {container} bits a sample, which format {tag} does not have.",
            param="audio",
        )
    if frame_size % channels == 0:
        held = frame_size // channels * 8
        bits = held if held in widths[tag] and held >= bits else bits
    return WavFormat(tag, channels, rate, bits, channels * bits // 8)


def open_wav(source: Source) -> PcmReader | None:
    """Read a RIFF or RF64 header and return a reader of its samples; None if they are not plain.

    The source stands at its first byte. Sizes are taken as hints: 0, 0xFFFFFFFF and whatever
    does not fit the data mean "until the end". Raises InvalidAudio for a broken header.
    """
    read_exactly(source, 12)
    fmt: WavFormat | None = None
    long_size: int | None = None
    data_at: tuple[int, int] | None = None
    while True:
        header = read_exactly(source, 8)
        if len(header) < 8:
            break
        name, size = struct.unpack("<4sI", header)
        if name == b"data":
            if size == _UNKNOWN_SIZE and long_size:
                size = long_size
            if fmt is not None:
                return PcmReader(source, fmt, _data_size(source, size))
            data_at = (source.tell(), size)
            source.seek(size + size % 2, 1)
            continue
        body = read_exactly(source, min(size, _LARGEST_CHUNK_KEPT))
        if name == b"fmt ":
            fmt = _parse_format(body)
            if fmt is None:
                return None
            if data_at is not None:
                source.seek(data_at[0])
                return PcmReader(source, fmt, _data_size(source, data_at[1]))
        elif name == b"ds64" and len(body) >= 16:
            long_size = struct.unpack_from("<Q", body, 8)[0]
        skip(source, size + size % 2 - len(body))
    raise errors.InvalidAudio(
        "The WAV file has no format chunk." if fmt is None else "The WAV file has no data chunk.",
        param="audio",
    )


def _data_size(source: Source, size: int) -> int | None:
    """Return the bytes of a data chunk that begins here, None for "until the end"."""
    if size == _UNKNOWN_SIZE:
        return None
    if size:
        return size
    here = source.tell()
    following = read_exactly(source, 8)
    source.seek(here)
    return 0 if _is_chunk(following) else None
