"""What encoders share: samples are counted, the header is given once, a codec gets whole blocks."""

from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame

from menura.audio.formats import OutputFormat
from menura.audio.level import bounded
from menura.engine.interface import Samples


class Counted:
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


class BlockEncoder(Counted):
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
