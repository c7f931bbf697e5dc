"""Decoding as the server does: from a source that gives what has arrived, to the end."""

import io

import numpy as np

from menura.audio.decode import open_decoder
from menura.engine.interface import Samples

LONGEST_BLOCK = 65_536


class Trickle(io.BytesIO):
    """A source that gives at most so many bytes at a time, as a slow upload does.

    furthest: bytes that were read. asked_for_end: whether the end was looked for.
    """

    def __init__(self, data: bytes, most: int = 1 << 20) -> None:
        super().__init__(data)
        self._most = most
        self.furthest = 0
        self.asked_for_end = False

    def read(self, size: int = -1, /) -> bytes:
        data = super().read(min(size, self._most) if size >= 0 else self._most)
        self.furthest = max(self.furthest, self.tell())
        self.asked_for_end |= size != 0 and not data
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self.asked_for_end |= whence == 2
        return super().seek(offset, whence)


def read(source: bytes | io.BytesIO, file_format: str = "other") -> tuple[Samples, int]:
    """Return all samples of a file, shape (n,), and their rate in Hz."""
    decoder = open_decoder(Trickle(source) if isinstance(source, bytes) else source, file_format)
    blocks = []
    while (block := decoder.read()).size:
        assert block.dtype == np.float32
        assert block.ndim == 1
        assert block.size <= LONGEST_BLOCK
        blocks.append(block)
    assert not decoder.read().size
    decoder.close()
    assert not decoder.read().size
    return np.concatenate(blocks), decoder.sample_rate
