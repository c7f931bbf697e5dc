"""The source's pitch range so far, in log F0."""

import numpy as np
from numpy.typing import NDArray

from menura.engine.neural.features import Array

_GRID = np.arange(np.log(50.0), np.log(900.0), 0.015)
_PRIOR_CENTRE, _PRIOR_SPREAD = np.log(150.0), 0.35
_PRIOR_WEIGHT = 5.0
"""Voiced frames that the prior counts for: a first syllable outweighs it."""
_MEMORY = 3_000.0
"""Voiced frames after which a speaker is forgotten: 30 s of voice."""


class PitchRange:
    """Running median of log F0; one state per stream."""

    def __init__(self) -> None:
        prior = np.exp(-0.5 * ((_GRID - _PRIOR_CENTRE) / _PRIOR_SPREAD) ** 2)
        self._histogram: NDArray[np.float64] = _PRIOR_WEIGHT * prior / prior.sum()

    def push(self, f0: Array) -> Array:
        """Take F0 in Hz (0 unvoiced), shape (n,), and return the median known at each frame."""
        out = np.empty(len(f0), np.float32)
        for index, value in enumerate(f0):
            if value > 0:
                place = int(np.clip((np.log(value) - _GRID[0]) / 0.015 + 0.5, 0, len(_GRID) - 1))
                self._histogram *= 1.0 - 1.0 / _MEMORY
                self._histogram[place] += 1.0
            total = np.cumsum(self._histogram)
            out[index] = np.interp(0.5 * total[-1], total, _GRID)
        return out
