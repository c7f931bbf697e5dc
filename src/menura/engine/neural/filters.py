"""From the network's gains to the filters of the synthesiser; shared by training and run time.

A filter is drawn as log gains (nepers of amplitude) at warped frequencies. One fixed matrix turns
them into the complex log response of the minimum-phase filter with that magnitude (Oppenheim and
Schafer, the folded cepstrum); further controls add an all-pass part. Responses are cut to 120
samples before and 424 after.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from menura.engine.neural.features import HOP, SAMPLE_RATE

FFT = 1024
BINS = FFT // 2 + 1
GAINS = 80
"""Log gains that draw the harmonic filter."""
ALLPASS = 32
"""Odd cepstral terms of the harmonic filter."""
HARMONIC = GAINS + ALLPASS
NOISE = 64
"""Log gains that draw the noise filter."""
CONTROLS = HARMONIC + NOISE
BEFORE = 120
AFTER = FFT - 2 * HOP - BEFORE
"""Samples of a response before and after its origin."""

Array = NDArray[np.float32]


def centres(count: int) -> NDArray[np.float64]:
    """Return `count` frequencies in Hz, from 0 to 12 kHz, denser below 1.5 kHz."""
    top = np.log1p(SAMPLE_RATE / 2 / 1_500.0)
    return np.asarray(1_500.0 * np.expm1(np.linspace(0.0, top, count)))


def _minimum_phase(count: int) -> NDArray[np.complex128]:
    bins = np.arange(BINS) * SAMPLE_RATE / FFT
    columns = [np.interp(bins, centres(count), row) for row in np.eye(count)]
    cepstrum = np.fft.irfft(np.asarray(columns), FFT)
    cepstrum[:, 1 : FFT // 2] *= 2.0
    cepstrum[:, FFT // 2 + 1 :] = 0.0
    return np.asarray(np.fft.rfft(cepstrum, FFT))


@lru_cache(maxsize=1)
def harmonic_matrix() -> Array:
    """Return the matrix from 112 controls to the real, then imaginary log response, shape (112,
    1026)."""
    magnitude = _minimum_phase(GAINS)
    angle = 2 * np.pi * np.outer(np.arange(1, ALLPASS + 1), np.arange(BINS)) / FFT
    odd = 1j * np.sin(angle) / np.sqrt(np.arange(1, ALLPASS + 1))[:, None]
    both = np.concatenate((magnitude, odd))
    return np.concatenate((both.real, both.imag), axis=1).astype(np.float32)


@lru_cache(maxsize=1)
def noise_matrix() -> Array:
    """Return the matrix from 64 controls to the real, then imaginary log response, shape (64,
    1026)."""
    both = _minimum_phase(NOISE)
    return np.concatenate((both.real, both.imag), axis=1).astype(np.float32)


@lru_cache(maxsize=1)
def overlap_window() -> Array:
    """Return the Hann window whose copies 240 samples apart sum to 1, shape (480,)."""
    return (0.5 - 0.5 * np.cos(np.pi * np.arange(2 * HOP) / HOP)).astype(np.float32)


@lru_cache(maxsize=1)
def response_taper() -> Array:
    """Return what responses are multiplied by to make them finite, in FFT order, shape (1024,)."""
    taper = np.zeros(FFT)
    taper[:AFTER] = 1.0
    fade = np.cos(np.linspace(0, np.pi / 2, 64)) ** 2
    taper[AFTER - 64 : AFTER] = fade
    taper[FFT - BEFORE :] = 1.0
    taper[FFT - BEFORE : FFT - BEFORE + 64] = fade[::-1]
    return taper.astype(np.float32)
