"""A track without the padding that its encoder added, which only its declared length tells."""

import numpy as np

from menura.engine.interface import Samples

_LONGEST_PADDING = 8192
"""Samples; encoders fill up their last frame or two. What is longer is sound that the declared
length knows nothing of, as where files were joined."""


class PaddingCutter:
    """A stage that holds back what comes after the declared length, until it proves to be no
    padding.

    length: samples that the file says it has without padding, None if it does not.
    """

    def __init__(self, length: int | None) -> None:
        self._length = length
        self._given = 0
        self._surplus: list[Samples] = []

    def push(self, samples: Samples) -> Samples:
        """Take samples in and return those that are no padding."""
        if self._length is None:
            return samples
        due = max(0, self._length - self._given)
        self._given += samples.size
        if samples.size > due:
            self._surplus.append(samples[due:])
            samples = samples[:due]
        if sum(part.size for part in self._surplus) <= _LONGEST_PADDING:
            return samples
        samples = np.concatenate((samples, *self._surplus))
        self._length = None
        self._surplus = []
        return samples
