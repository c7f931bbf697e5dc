"""Speech heard as if another person had spoken it elsewhere.

Perturbation happens on power spectra: another vocal-tract length, another pitch, an equaliser,
noise, a lost band.
"""

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import SAMPLE_RATE
from menura.engine.neural import bands
from menura.engine.neural import mel as spectra_of
from menura.engine.neural.mel import FFT, MELS

REPITCHED, NOISY, LOST_BAND = 0.35, 0.15, 0.05
"""Shares of stretches that are given another pitch, noise, or no upper band."""
EQUALISER = 0.6
"""Deviation of the equaliser in nepers of power."""

BINS = FFT // 2 + 1

Array = NDArray[np.float32]


def repitch(spectra: Array, f0: Array, factor: float) -> Array:
    """Return power spectra with the harmonics of `factor` times F0 under the same envelope."""
    hertz = np.arange(BINS) * SAMPLE_RATE / FFT
    width = np.maximum(f0, 60.0)[:, None]
    total = np.concatenate((np.zeros((len(spectra), 1)), np.cumsum(spectra, axis=1)), axis=1)
    step = SAMPLE_RATE / FFT

    def integral(at: NDArray[np.float64]) -> NDArray[np.float64]:
        place = np.clip(at / step + 0.5, 0.0, BINS - 1e-3)
        whole = place.astype(int)
        rows = np.arange(len(spectra))[:, None]
        low = total[rows, whole]
        return np.asarray(low + (total[rows, whole + 1] - low) * (place - whole))

    smooth = (integral(hertz + width / 2) - integral(hertz - width / 2)) / (width / step)
    wanted = f0[:, None] * factor
    away = (
        np.abs(hertz / np.maximum(wanted, 1.0) - np.rint(hertz / np.maximum(wanted, 1.0))) * wanted
    )
    lobe = np.where(away < 80.0, np.cos(np.pi * np.minimum(away, 80.0) / 160.0) ** 4, 0.0) + 1e-3
    lobe = lobe * wanted / 60.0
    return np.asarray(
        np.where(f0[:, None] > 0, np.maximum(smooth, 0) * lobe, spectra).astype(np.float32)
    )


def equaliser(rng: np.random.Generator, deviation: float) -> NDArray[np.float64]:
    """Draw a smooth curve over the envelopes' bands, in nepers, (64,)."""
    knots = rng.normal(0, deviation, int(rng.integers(3, 8)))
    at = np.linspace(0, bands.COUNT - 1, len(knots))
    return np.asarray(np.interp(np.arange(bands.COUNT), at, knots))


def perturbed(wave: Array, f0: Array, frames: int, rng: np.random.Generator, warp: float) -> Array:
    """Return log-mel of a wave as if another person had spoken it elsewhere, shape (frames, 80).

    warp: vocal-tract length that is imitated; formants and pitch fall by this factor.
    """
    spectra = spectra_of.power(wave, frames, warp)
    if rng.random() < REPITCHED:
        spectra = repitch(spectra, f0, float(np.exp2(rng.uniform(-10, 10) / 12)))
    if rng.random() < NOISY:
        level = np.percentile(spectra.sum(axis=1), 95) / BINS * 10 ** (-rng.uniform(10, 40) / 10)
        tilt = np.exp(
            np.interp(np.arange(BINS), np.linspace(0, BINS - 1, 5), rng.normal(0, 1.2, 5))
        )
        noise = level * tilt / tilt.mean() * rng.exponential(1.0, spectra.shape)
        spectra = spectra + noise.astype(np.float32)
    if rng.random() < LOST_BAND:
        cut = rng.uniform(3_300, 7_000) * FFT / SAMPLE_RATE * warp
        spectra = spectra * (1e-4 + 1.0 / (1.0 + (np.arange(BINS) / cut) ** 40)).astype(np.float32)
    heard = spectra_of.log_mel(spectra, warp)
    knots = int(rng.integers(4, 8))
    heights = rng.normal(0, EQUALISER, knots)
    curve = np.interp(np.arange(MELS), np.linspace(0, MELS - 1, knots), heights)
    return np.asarray((heard + curve + rng.normal(0, 1.0)).astype(np.float32))
