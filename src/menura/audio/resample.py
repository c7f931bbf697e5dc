"""Streaming sample-rate conversion of exact length."""

from functools import lru_cache
from typing import Literal

import numpy as np
import soxr

from menura.engine.interface import EMPTY, Samples

Quality = Literal["LQ", "HQ"]

FULL_QUALITY: Quality = "HQ"
"""For recordings: flat to 0.91 of the lower Nyquist frequency, -0.5 dB at most."""

LOW_DELAY_QUALITY: Quality = "LQ"
"""For live audio: holds back half as much, but falls from 0.75 of the lower Nyquist frequency on
(-2 dB at 0.8, -20 dB at 0.9)."""


def resampled_length(samples: int, from_rate: int, to_rate: int) -> int:
    """Return how many samples `samples` at `from_rate` become at `to_rate` (halves round up).

    The one rounding rule of every length in Menura; exact in integers.
    """
    return (2 * samples * to_rate + from_rate) // (2 * from_rate)


@lru_cache(maxsize=256)
def _most_held(from_rate: int, to_rate: int, quality: Quality) -> int:
    """Measure the delay: soxr works in blocks whose size it does not tell."""
    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality=quality)
    piece = np.zeros(max(1, from_rate // 100), np.float32)
    taken = given = held = 0
    while taken < from_rate:
        given += stream.resample_chunk(piece).size
        taken += piece.size
        held = max(held, resampled_length(taken, from_rate, to_rate) - given)
    return held


class Resampler:
    """A stage that changes the rate of a mono stream.

    The whole output has `resampled_length(n, from_rate, to_rate)` samples for n samples in and is
    aligned with the input; any chunking gives the same output. Equal rates pass through.

    quality: of soxr; the better filter holds back more (`delay`).
    """

    def __init__(self, from_rate: int, to_rate: int, quality: Quality = FULL_QUALITY) -> None:
        if from_rate <= 0 or to_rate <= 0:
            raise ValueError(f"sample rates must be positive, not {from_rate} and {to_rate}")
        self.from_rate = from_rate
        self.to_rate = to_rate
        self._quality: Quality = quality
        self._taken = 0
        self._given = 0
        self._stream = (
            None
            if from_rate == to_rate
            else soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality=quality)
        )

    @property
    def delay(self) -> int:
        """Samples held back at most, at `to_rate`, when pushes are of 10 ms."""
        if self._stream is None:
            return 0
        return _most_held(self.from_rate, self.to_rate, self._quality)

    def push(self, samples: Samples) -> Samples:
        """Take samples at `from_rate` and return those at `to_rate` that have become final."""
        self._taken += samples.size
        if self._stream is None:
            self._given += samples.size
            return samples
        if not samples.size:
            return EMPTY
        return self._give(self._stream.resample_chunk(np.ascontiguousarray(samples, np.float32)))

    def flush(self) -> Samples:
        """End the input and return the remaining samples. The object is spent afterwards."""
        if self._stream is None:
            return EMPTY
        rest = self._give(self._stream.resample_chunk(EMPTY, last=True))
        missing = resampled_length(self._taken, self.from_rate, self.to_rate) - self._given
        return np.concatenate((rest, np.zeros(missing, np.float32)))

    def _give(self, samples: Samples) -> Samples:
        due = resampled_length(self._taken, self.from_rate, self.to_rate) - self._given
        given = samples[: max(0, due)]
        self._given += given.size
        return given
