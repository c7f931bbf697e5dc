"""Spectral envelopes without harmonics, for all instants of a block at once.

The F0-adaptive method of Morise 2015 ("CheapTrick, a spectral envelope estimator for high-quality
speech synthesis"): a window of three periods, whose power does not depend on where in the period it
lies; smoothing over two thirds of F0; cepstral smoothing with compensation.
"""

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import SAMPLE_RATE
from menura.engine.source_filter.spectrum import BINS, FFT, POWER_FLOOR, Array, windows

UNVOICED_F0 = 500.0
"""F0 that sets the window where there is none: 6 ms, short enough for a plosive."""

_LOWEST = 3.0 * SAMPLE_RATE / (FFT - 3)
"""F0 in Hz whose three periods fill the transform; lower ones get its window."""
_HALF = FFT // 2
_BIN = SAMPLE_RATE / FFT
_MIRROR = 32
"""Bins by which a spectrum goes on, mirrored, at both ends: a third of the highest F0 fits in."""
_COMPENSATION = -0.15
"""q1 of Morise 2015: how much of what smoothing over F0 takes from peaks is given back."""

REACH = _HALF
"""Samples that a window reaches at most to either side of its instant."""


def envelopes(samples: Array, centres: NDArray[np.intp], f0: Array) -> Array:
    """Return log power envelopes, shape (instants, BINS).

    samples: must reach `REACH` beyond every centre. f0: Hz per instant, 0 where unvoiced.
    White noise of variance v has the envelope log(v) at every frequency.
    """
    pitch = np.where(f0 > 0, np.maximum(f0, _LOWEST), UNVOICED_F0).astype(np.float32)[:, None]
    power = _power(samples, centres, pitch)
    power = _fill_below_f0(power, np.where(f0[:, None] > 0, pitch, 0.0))
    logs = np.log(_smooth(power, pitch * (2 / 3)) + POWER_FLOOR)
    cepstrum = np.fft.irfft(logs, axis=1)[:, :BINS]
    smooth = np.fft.hfft(cepstrum * _lifter(pitch), FFT, axis=1)[:, :BINS]
    return np.asarray(smooth, dtype=np.float32)


def _power(samples: Array, centres: NDArray[np.intp], pitch: Array) -> Array:
    reach = min(_HALF - 1, int(1.5 * SAMPLE_RATE / pitch.min()) + 1)
    segments = windows(samples, 2 * reach + 1)[centres - reach]
    offsets = np.arange(-reach, reach + 1, dtype=np.float32)
    time = np.minimum(np.abs(offsets * (pitch / (1.5 * SAMPLE_RATE))), 1.0)
    window = 0.5 + 0.5 * np.cos(np.pi * time)
    shaped = segments * window
    shaped -= window * (shaped.sum(axis=1) / window.sum(axis=1))[:, None]
    spectrum = np.fft.rfft(shaped, FFT, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    return np.asarray(power / (window**2).sum(axis=1)[:, None])


def _fill_below_f0(power: Array, pitch: Array) -> Array:
    """Mirror what lies just above DC: no harmonic sounds below F0, but the envelope has no gap."""
    reach = int(pitch.max() / _BIN) + 2
    positions = np.clip(pitch / _BIN - np.arange(reach)[None, :], 0.0, BINS - 2.0)
    low = positions.astype(np.intp)
    part = positions - low
    rows = np.arange(len(power))[:, None]
    mirrored = (1 - part) * power[rows, low] + part * power[rows, low + 1]
    inside = np.arange(reach)[None, :] * _BIN < pitch
    power[:, :reach] += np.where(inside, mirrored, 0.0)
    return power


def _smooth(power: Array, width: Array) -> Array:
    """Average over `width` Hz around every bin, spectrum mirrored at both ends."""
    mirrored = np.concatenate(
        [power[:, _MIRROR:0:-1], power, power[:, -2 : -_MIRROR - 2 : -1]], axis=1
    )
    # Strong bins stand before weak ones, whose share of a single-precision sum would be lost.
    sums = windows(np.cumsum(mirrored, axis=1, dtype=np.float64), BINS)
    steps = windows(mirrored, BINS)
    rows = np.arange(len(power))
    half = width[:, 0].astype(np.float64) / (2 * _BIN)
    low, high = _MIRROR - 0.5 - half, _MIRROR - 0.5 + half
    # Bins lie one apart, so every bin of a row reads at the same distance behind a sum.
    first, last = low.astype(np.intp), high.astype(np.intp)
    area = sums[rows, last] - sums[rows, first]
    area += (high - last)[:, None] * steps[rows, last + 1]
    area -= (low - first)[:, None] * steps[rows, first + 1]
    return np.asarray(area / (2 * half)[:, None], dtype=np.float32)


def _lifter(pitch: Array) -> Array:
    """Return smoothing over F0 and its compensation as weights of the cepstral terms."""
    angle = np.arange(BINS, dtype=np.float32) * (pitch * (np.pi / SAMPLE_RATE))
    sine = np.sin(angle)
    angle[:, 0] = 1.0
    weights = sine / angle * (1.0 - 4.0 * _COMPENSATION * sine * sine)
    weights[:, 0] = 1.0
    return np.asarray(weights)
