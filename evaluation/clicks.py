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
    """Mean log roughness where chunks meet minus that everywhere else, in nepers.

    0 when nothing tells the joints from other places; 0.1 would be a faint trace. Where in a result
    chunks meet depends on what a converter waits for, so the roughest place is looked for in every
    other chunk, and judged in those between, where chance does not make it rough.
    """
    rough = _roughness(samples)
    width = 24
    cells = np.log(rough[: len(rough) // width * width].reshape(-1, width).max(axis=1) + 1e-7)
    local = cells - median_filter(cells, size=41, mode="nearest")
    places = chunk // width
    chunks = local[places : len(local) // places * places].reshape(-1, places)
    if len(chunks) < 8:
        return float("nan")
    one, other = (half.mean(axis=0) for half in (chunks[::2], chunks[1::2]))
    judged = np.array([other[one.argmax()], one[other.argmax()]])
    elsewhere = (places * np.array([other.mean(), one.mean()]) - judged) / (places - 1)
    return float((judged - elsewhere).mean())
