"""Clicks: isolated jumps of the waveform, and traces of the joints between chunks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from evaluation.corpus import CORPUS_RATE, Samples

THRESHOLD = 12.0
"""How many times the surrounding roughness a jump must be to count."""


def _roughness(samples: Samples) -> npt.NDArray[np.float64]:
    """Absolute third difference: small for anything that a microphone records."""
    return np.abs(np.diff(samples.astype(np.float64), n=3, prepend=[0.0, 0.0, 0.0]))


def clicks(samples: Samples) -> npt.NDArray[np.int64]:
    """Sample indices of clicks.

    A click is a third difference over 12 times the peak roughness usual around it, measured as the
    median over 60 ms of the maxima of 2 ms blocks, and over -60 dB of the clip's own peak.
    """
    rough = _roughness(samples)
    block = CORPUS_RATE // 500
    count = len(rough) // block
    if count < 30:
        return np.zeros(0, dtype=np.int64)
    peaks = rough[: count * block].reshape(count, block).max(axis=1)
    usual = median_filter(peaks, size=31, mode="nearest")
    floor = 1e-3 * float(np.abs(samples).max())
    # A glottal pulse or a plosive spreads over several blocks; a click stands alone.
    wide = median_filter(peaks, size=5, mode="nearest")
    found = (peaks > THRESHOLD * usual) & (peaks > 4.0 * wide) & (peaks > floor)
    return np.asarray(
        [
            b * block + int(np.argmax(rough[b * block : (b + 1) * block]))
            for b in np.flatnonzero(found)
        ],
        dtype=np.int64,
    )


def joint_trace(samples: Samples, chunk: int) -> float:
    """Mean log roughness at multiples of `chunk` minus that everywhere else, in nepers.

    0 when nothing tells the joints from other places; 0.1 would be a faint trace.
    """
    rough = _roughness(samples)
    width = 24
    cells = np.log(rough[: len(rough) // width * width].reshape(-1, width).max(axis=1) + 1e-7)
    local = cells - median_filter(cells, size=41, mode="nearest")
    starts = np.arange(chunk, len(samples) - width, chunk) // width
    if len(starts) < 4:
        return float("nan")
    at_joint = np.zeros(len(local), dtype=bool)
    at_joint[np.clip(starts, 0, len(local) - 1)] = True
    return float(local[at_joint].mean() - local[~at_joint].mean())
