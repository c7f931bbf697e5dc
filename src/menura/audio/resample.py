"""Streaming sample-rate conversion of exact length."""

from typing import Literal

import numpy as np
import soxr

from menura.engine.interface import Samples

Quality = Literal["LQ", "MQ", "HQ", "VHQ"]

INPUT_QUALITY: Quality = "LQ"
"""For what an engine analyses: least delay, flat to 0.67 of the lower Nyquist frequency."""

OUTPUT_QUALITY: Quality = "HQ"
"""For what a listener hears."""


def resampled_length(samples: int, from_rate: int, to_rate: int) -> int:
    """Return how many samples `samples` at `from_rate` become at `to_rate` (halves round up).

    The one rounding rule of every length in Menura; exact in integers.
    """
    return (2 * samples * to_rate + from_rate) // (2 * from_rate)


class Resampler:
    """A stage that changes the rate of a mono stream.

    The whole output has `resampled_length(n, from_rate, to_rate)` samples for n samples in and is
    aligned with the input; any chunking gives the same output. Equal rates pass through.

    quality: of soxr, "LQ" to "VHQ"; better filters hold back more (`delay`).
    """

    def __init__(self, from_rate: int, to_rate: int, quality: Quality = OUTPUT_QUALITY) -> None:
        if from_rate <= 0 or to_rate <= 0:
            raise ValueError(f"sample rates must be positive, not {from_rate} and {to_rate}")
        self.from_rate = from_rate
        self.to_rate = to_rate
        self._taken = 0
        self._given = 0
        self._stream = (
            None
            if from_rate == to_rate
            else soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality=quality)
        )

    @property
    def delay(self) -> int:
        """Samples held back at present, at `to_rate`."""
        return resampled_length(self._taken, self.from_rate, self.to_rate) - self._given

    def push(self, samples: Samples) -> Samples:
        """Take samples at `from_rate` and return those at `to_rate` that have become final."""
        self._taken += samples.size
        if self._stream is None:
            self._given += samples.size
            return samples
        if not samples.size:
            return np.zeros(0, np.float32)
        return self._give(self._stream.resample_chunk(np.ascontiguousarray(samples, np.float32)))

    def flush(self) -> Samples:
        """End the input and return the remaining samples. The object is spent afterwards."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        rest = self._give(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        missing = resampled_length(self._taken, self.from_rate, self.to_rate) - self._given
        self._given += missing
        return np.concatenate((rest, np.zeros(missing, np.float32)))

    def _give(self, samples: Samples) -> Samples:
        due = resampled_length(self._taken, self.from_rate, self.to_rate) - self._given
        given = samples[: max(0, due)]
        self._given += given.size
        return given
