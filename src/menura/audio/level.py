"""Conversion between float samples and the integers of files."""

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import Samples

LARGEST = np.float32(16)
"""Magnitude beyond which a float sample is cut: 24 dB above full scale."""


def bounded(samples: Samples) -> Samples:
    """Return the samples with NaN and infinities as 0 and absurd magnitudes cut."""
    if samples.size and not np.abs(samples).max() <= LARGEST:
        samples = np.where(np.isfinite(samples), samples, np.float32(0))
        samples = np.clip(samples, -LARGEST, LARGEST)
    return samples


def to_int16(samples: Samples) -> NDArray[np.int16]:
    """Return samples of -1 to 1 rounded to 16 bits; what lies outside is clipped."""
    scaled = np.rint(bounded(samples) * np.float32(32768))
    rounded: NDArray[np.int16] = np.clip(scaled, -32768, 32767).astype(np.int16)
    return rounded


def to_float(samples: NDArray[np.generic]) -> Samples:
    """Return integer or float samples of any width as floats of -1 to 1.

    Unsigned bytes are centred on 128; floats are `bounded`.
    """
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - np.float32(128)) / np.float32(128)
    if samples.dtype.kind == "i":
        full_scale = np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
        return samples.astype(np.float32) / full_scale
    with np.errstate(over="ignore", invalid="ignore"):
        return bounded(samples.astype(np.float32))


def mono(frames: Samples) -> Samples:
    """Return the mean over the channels of frames of shape (n, channels).

    The mean, not a layout's weights: no sum can clip, and a file with a wrong or missing layout
    sounds the same.
    """
    return frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1, dtype=np.float32)
