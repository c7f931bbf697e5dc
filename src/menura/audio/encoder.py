"""What every encoder does: it counts samples, gives the header once, feeds a codec whole blocks."""

from abc import ABC, abstractmethod
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame

from menura.audio.formats import OutputFormat
from menura.audio.level import bounded
from menura.engine.interface import EMPTY, Samples


class Encoder(ABC):
    """One stream in one output format; any chunking of the samples gives the same bytes.

    sample_rate: Hz of the samples it takes. delay: samples at most that were pushed and cannot be
    decoded from the bytes given so far.
    """

    delay = 0

    def __init__(self, output_format: OutputFormat, total: int | None) -> None:
        self.sample_rate = output_format.sample_rate
        self._format = output_format
        self._total = total
        self._taken = 0
        self._begun = False

    @property
    def header(self) -> bytes:
        """The bytes that the stream begins with; empty for a format without any.

        After `finish` it says the true length. It never changes its size, so whoever kept the
        whole stream may write it over the stream's beginning if `total` was not known.
        """
        return b""

    @abstractmethod
    def push(self, samples: Samples) -> bytes:
        """Take samples in and return the bytes that have become final, whole samples only."""

    @abstractmethod
    def finish(self) -> bytes:
        """End the stream and return the remaining bytes. The object is spent afterwards.

        Raises ValueError if a `total` was promised and another number of samples came.
        """

    def _begin(self) -> bytes:
        """Return the header, the first time only."""
        if self._begun:
            return b""
        self._begun = True
        return self.header

    def _end(self) -> None:
        if self._total is not None and self._total != self._taken:
            raise ValueError(f"{self._total} samples were promised and {self._taken} came")
        self._total = self._taken


class BlockEncoder(Encoder):
    """Gathers samples into the codec's blocks of `block` samples."""

    def __init__(self, output_format: OutputFormat, total: int | None, block: int) -> None:
        super().__init__(output_format, total)
        self._block = block
        self._pending: Samples = EMPTY
        self._sent = 0

    def push(self, samples: Samples) -> bytes:
        self._taken += samples.size
        parts = [self._begin()]
        self._pending = np.concatenate((self._pending, np.clip(bounded(samples), -1, 1)))
        while self._pending.size >= self._block:
            parts.append(self._encode(self._pending[: self._block]))
            self._pending = self._pending[self._block :]
        return b"".join(parts)

    @abstractmethod
    def _encode(self, block: Samples) -> bytes:
        """Return the bytes that have become final with a block; the last may be shorter."""

    def _frame(self, block: Samples, sample_format: str) -> AudioFrame:
        """Return the next block as FFmpeg takes it."""
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), sample_format, "mono")
        frame.sample_rate = self.sample_rate
        frame.pts = self._sent
        frame.time_base = Fraction(1, self.sample_rate)
        self._sent += block.size
        return frame
