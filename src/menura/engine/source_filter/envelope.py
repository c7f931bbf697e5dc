"""Spectral envelopes without harmonics, for all instants of a block at once.

The F0-adaptive method of Morise 2015 ("CheapTrick, a spectral envelope estimator for high-quality
speech synthesis"): a window of three periods, whose power does not depend on where in the period it
lies; smoothing over two thirds of F0; cepstral smoothing with compensation.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from menura.engine.interface import SAMPLE_RATE
from menura.engine.source_filter.spectrum import BINS, FFT, POWER_FLOOR, Array

UNVOICED_F0 = 500.0
"""F0 that sets the window where there is none: 6 ms, short enough for a plosive."""

_LOWEST = 3.0 * SAMPLE_RATE / (FFT - 3)
_HALF = FFT // 2
_BIN = SAMPLE_RATE / FFT
_MIRROR = 32
_COMPENSATION = -0.15

REACH = _HALF
"""Samples that a window reaches at most to either side of its instant."""


def envelopes(samples: Array, centres: NDArray[np.intp], f0: Array) -> Array:
    """Return log power envelopes, shape (instants, BINS).

    samples: must reach `REACH` beyond every centre. f0: Hz per instant, 0 where unvoiced.
    White noise of variance v has the envelope log(v) at every frequency.
    """
    pitch = np.where(f0 > 0, np.maximum(f0, _LOWEST), UNVOICED_F0).astype(np.float64)[:, None]
    power = _power(samples, centres, pitch)
    power = _fill_below_f0(power, np.where(f0[:, None] > 0, pitch, 0.0))
    power = _smooth(power, pitch * (2.0 / 3.0))
    logs = np.log(power + POWER_FLOOR)
    cepstrum = np.fft.irfft(logs, axis=1)[:, :BINS]
    quefrency = np.arange(BINS) / SAMPLE_RATE * pitch
    compensation = 1.0 - 2.0 * _COMPENSATION + 2.0 * _COMPENSATION * np.cos(2 * np.pi * quefrency)
    lifted = cepstrum * np.sinc(quefrency) * compensation
    return np.fft.hfft(lifted, FFT, axis=1)[:, :BINS].astype(np.float32)


def _power(
    samples: Array, centres: NDArray[np.intp], pitch: NDArray[np.float64]
) -> NDArray[np.float64]:
    segments = sliding_window_view(samples, FFT)[centres - _HALF].astype(np.float64)
    time = (np.arange(FFT) - _HALF)[None, :] * (pitch / (1.5 * SAMPLE_RATE))
    window = np.where(np.abs(time) < 1.0, 0.5 + 0.5 * np.cos(np.pi * time), 0.0)
    shaped = segments * window
    shaped -= window * (shaped.sum(axis=1) / window.sum(axis=1))[:, None]
    spectrum = np.fft.rfft(shaped, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    return np.asarray(power / (window**2).sum(axis=1)[:, None])


def _fill_below_f0(power: NDArray[np.float64], pitch: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mirror what lies just above DC: no harmonic sounds below F0, but the envelope has no gap."""
    reach = int(pitch.max() / _BIN) + 2
    positions = np.clip(pitch / _BIN - np.arange(reach)[None, :], 0.0, BINS - 2.0)
    low = positions.astype(np.intp)
    part = positions - low
    mirrored = (1 - part) * np.take_along_axis(power, low, 1) + part * np.take_along_axis(
        power, low + 1, 1
    )
    inside = np.arange(reach)[None, :] * _BIN < pitch
    power[:, :reach] += np.where(inside, mirrored, 0.0)
    return power


def _smooth(power: NDArray[np.float64], width: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over `width` Hz around every bin, spectrum mirrored at both ends."""
    mirrored = np.concatenate(
        [power[:, _MIRROR:0:-1], power, power[:, -2 : -_MIRROR - 2 : -1]], axis=1
    )
    sums = np.cumsum(mirrored, axis=1)
    half = width / (2 * _BIN)
    centre = _MIRROR + np.arange(BINS)[None, :] - 0.5

    def integral(position: NDArray[np.float64]) -> NDArray[np.float64]:
        low = position.astype(np.intp)
        part = position - low
        below = np.take_along_axis(sums, low, 1)
        return np.asarray(below + part * (np.take_along_axis(sums, low + 1, 1) - below))

    return np.asarray((integral(centre + half) - integral(centre - half)) / (2 * half))
