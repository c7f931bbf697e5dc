"""How much of each frequency band repeats from period to period.

Two windows of two periods, one period apart and centred on the instant, are compared band by band:
the real part of their coherence is the share of periodic power (1 for a steady voice, 0 for noise
on average). It plays the part of D4C (Morise 2016), with less than half its window.
"""

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import SAMPLE_RATE
from menura.engine.source_filter.spectrum import BINS, FFT, FREQUENCIES, Array, windows

EDGES = (0.0, 700.0, 1_500.0, 2_500.0, 3_500.0, 5_000.0, 7_000.0, 9_000.0, 12_000.0)
"""Borders of the bands in Hz."""

BANDS = len(EDGES) - 1
"""Bands whose share is told."""
CENTRES = np.array([300.0, 1_100.0, 2_000.0, 3_000.0, 4_200.0, 6_000.0, 8_000.0, 10_500.0])
"""Hz between which shares are interpolated."""

_LOWEST = 100.0
"""F0 in Hz under which the windows grow no longer."""
_WINDOW = int(SAMPLE_RATE / _LOWEST)
"""Samples to either side of a window's middle."""
_SHIFTS = np.arange(-3.0, 3.01, 0.5)
"""Corrections of the period in samples that are tried."""

_BAND_OF_BIN = np.zeros((BINS, BANDS), dtype=np.float32)
_BAND_OF_BIN[np.arange(BINS), np.digitize(FREQUENCIES, EDGES[1:-1])] = 1.0
_TURNS = np.exp(2j * np.pi / SAMPLE_RATE * FREQUENCIES[:, None] * _SHIFTS[None, :])
# Real and imaginary parts take turns in the rows, as they do in memory.
_SHIFTED = np.ascontiguousarray(
    (_BAND_OF_BIN[:, None, None] * np.stack([_TURNS.real, -_TURNS.imag], axis=1)[..., None])
    .reshape(2 * BINS, -1)
    .astype(np.float32)
)
_TRUSTED = np.array([1.0, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0], dtype=np.float32)
"""Weight of each band in the choice of the correction."""
_UNTRIED = -9.0
"""Agreement of a correction that is too large: under any that is found."""

REACH = _WINDOW + SAMPLE_RATE // 110 + 2
"""Samples that a window reaches at most to either side of its instant."""


def periodicities(samples: Array, centres: NDArray[np.intp], f0: Array) -> tuple[Array, Array]:
    """Return the periodic share of the power per band, (instants, BANDS), 0 to 1, and F0 refined.

    samples: must reach `REACH` beyond every centre. f0: Hz per instant; 0 gives a share of 0.
    The period is refined within 3 samples to where the bands below 5 kHz agree best.
    """
    share = np.zeros((len(f0), BANDS), dtype=np.float32)
    refined = f0.copy()
    voiced = np.flatnonzero(f0 > 0)
    if len(voiced) == 0:
        return share, refined
    period = SAMPLE_RATE / f0[voiced].astype(np.float64)
    gap = np.rint(period).astype(np.intp)
    coherence = _coherences(samples, centres[voiced], period, gap)
    tried = gap[:, None] + _SHIFTS[None, :]
    near = np.abs(tried / period[:, None] - 1.0) < 0.04
    agreement = np.where(near, coherence @ _TRUSTED, _UNTRIED)
    best = agreement.argmax(axis=1)
    rows = np.arange(len(voiced))
    around = np.clip(best[:, None] + np.arange(-1, 2)[None, :], 0, len(_SHIFTS) - 1)
    share[voiced] = np.clip(coherence[rows[:, None], around].max(axis=1), 0.0, 1.0)
    before, at, after = agreement[rows[:, None], around].T
    curve = before - 2 * at + after
    inner = (best > 0) & (best < len(_SHIFTS) - 1) & (curve < -1e-6)
    inner &= np.minimum(before, after) > _UNTRIED
    shift = np.where(inner, 0.25 * (before - after) / np.where(inner, curve, 1.0), 0.0)
    refined[voiced] = SAMPLE_RATE / (tried[rows, best] + np.clip(shift, -0.5, 0.5))
    return share, refined


def _coherences(
    samples: Array, centres: NDArray[np.intp], period: NDArray[np.float64], gap: NDArray[np.intp]
) -> Array:
    """Return the real part of the coherence per correction of the period and band,
    (instants, corrections, BANDS).

    period: in samples, (instants,). gap: the same, whole: what lies between the two windows.
    """
    begin = centres - gap // 2 - _WINDOW
    frames = windows(samples, 2 * _WINDOW + 1)
    width = np.minimum(period, SAMPLE_RATE / _LOWEST).astype(np.float32)[:, None]
    time = np.abs(np.arange(-_WINDOW, _WINDOW + 1, dtype=np.float32)) / width
    window = 0.5 + 0.5 * np.cos(np.pi * np.minimum(time, 1.0))
    first = np.fft.rfft(frames[begin] * window, FFT, axis=1)
    second = np.fft.rfft(frames[begin + gap] * window, FFT, axis=1)
    bands = (first.conj() * second).view(np.float32) @ _SHIFTED
    power = np.sqrt(
        ((first.real**2 + first.imag**2) @ _BAND_OF_BIN)
        * ((second.real**2 + second.imag**2) @ _BAND_OF_BIN)
    )
    coherence = bands.reshape(len(gap), len(_SHIFTS), BANDS) / np.maximum(power[:, None, :], 1e-12)
    return np.asarray(coherence)
