"""A track whose sample rate may change midway, as in joined MP3 files, at that of its beginning."""

import numpy as np

from menura.audio.resample import Resampler
from menura.engine.interface import EMPTY, Samples


class SteadyRate:
    """A stage that takes blocks of any rate and gives samples of the first block's.

    sample_rate: Hz, 0 before the first block.
    """

    def __init__(self) -> None:
        self.sample_rate = 0
        self._resampler: Resampler | None = None

    def push(self, samples: Samples, rate: int) -> Samples:
        """Take a block at `rate` Hz in and return the samples that have become final."""
        self.sample_rate = self.sample_rate or rate
        rest = EMPTY
        if self._resampler is None or rate != self._resampler.from_rate:
            rest = self.flush()
            self._resampler = Resampler(rate, self.sample_rate)
        samples = self._resampler.push(samples)
        return np.concatenate((rest, samples)) if rest.size else samples

    def flush(self) -> Samples:
        """End a stretch of one rate and return its remaining samples."""
        resampler, self._resampler = self._resampler, None
        return resampler.flush() if resampler is not None else EMPTY
