"""What steers the timbre network beside the content code; shared by training and run time."""

import numpy as np
from numpy.typing import NDArray

from menura.engine.source_filter.spectrum import Array

CONTROLS = 13


def hold(f0: Array, start: float) -> Array:
    """Return F0 with unvoiced frames (0) filled by the last voiced value, at first `start`."""
    last = np.where(f0 > 0, np.arange(len(f0)), -1)
    np.maximum.accumulate(last, out=last)
    return np.asarray(np.where(last >= 0, f0[np.maximum(last, 0)], start).astype(np.float32))


def steady(level: Array) -> Array:
    """Return levels over the speech's, in nepers of power, as the network is told them."""
    return np.asarray(np.clip(level, -9.0, 3.0) * 0.4, np.float32)


def controls_of(
    f0: Array,
    median: float,
    level: Array,
    before: float | None,
    shares: Array,
    voiced: NDArray[np.bool_],
) -> Array:
    """Return log F0, the same over the voice's median, level, its change, periodic shares and
    voicing, shape (n, CONTROLS).

    f0: Hz, held through unvoiced frames. median: of the voice's log F0. level: of `steady`. before:
    the level before the first frame, None at the beginning.
    """
    pitch = np.log(f0)
    change = np.diff(level, prepend=level[:1] if before is None else np.float32(before))
    first = np.stack((pitch - 5.0, pitch - median, level, change), axis=1)
    return np.concatenate((first, shares, voiced[:, None]), axis=1).astype(np.float32)
