"""What the timbre network is told beside the content code; shared by training and run time."""

import numpy as np
from numpy.typing import NDArray

from menura.engine.source_filter.spectrum import Array

CONTROLS = 13
SILENT_LEVEL = -3.6
"""The least that `steady` gives: nothing is heard."""
_USUAL_PITCH = 5.0
"""Log F0 (148 Hz) over which the network is told pitches."""


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
    first = np.stack((pitch - _USUAL_PITCH, pitch - median, level, change), axis=1)
    return np.concatenate((first, shares, voiced[:, None]), axis=1).astype(np.float32)


def means_told(means: Array, median: float) -> Array:
    """Return what is told of a voice as a whole, (129,).

    means: its mean envelopes of voiced and of unvoiced speech, (128,). median: of its log F0.
    """
    return np.append(means, median - _USUAL_PITCH).astype(np.float32)


def carried_of(envelope: Array) -> Array:
    """Return what is told of the source's envelope, and that there is one, (n, 65).

    envelope: over its level, at the voice's tract length and mean, (n, 64), in nepers of power.
    """
    there = np.ones((len(envelope), 1), np.float32)
    return np.concatenate((np.clip(envelope, -9.0, 5.0), there), axis=1).astype(np.float32)
