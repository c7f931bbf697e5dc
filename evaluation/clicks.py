"""Clicks: isolated jumps of the waveform, and traces of the joints between chunks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter, median_filter

from evaluation.corpus import Samples

RATIO = 2.5
"""Times by which a click stands over all around it."""
REACH, HOLE = 384, 4
"""Samples around a click that are compared with it, 16 ms, and those next to it that are not."""
FLOOR = 3e-3
"""Share of the clip's peak (-50 dB) under which nothing clicks."""


def _roughness(samples: Samples) -> npt.NDArray[np.float64]:
    """Absolute third difference: small for anything that a microphone records."""
    rough = np.abs(np.diff(samples.astype(np.float64), n=3))
    return np.pad(rough, (2, 1))


def clicks(samples: Samples) -> npt.NDArray[np.int64]:
    """Sample indices of clicks.

    A click stands alone: its third difference is over 2.5 times every other one within 16 ms, and
    over -50 dB of the clip's peak. Glottal pulses repeat within that time, fricatives are rough
    all around.
    """
    rough = _roughness(samples)
    around = np.ones(2 * REACH + 1, dtype=bool)
    around[REACH - HOLE : REACH + HOLE + 1] = False
    others = maximum_filter(rough, footprint=around)
    peak = FLOOR * float(np.abs(samples).max(initial=0.0))
    found = np.flatnonzero((rough > RATIO * others) & (rough > peak))
    return np.asarray(found[np.diff(found, prepend=-HOLE) >= HOLE], dtype=np.int64)


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
