"""The time and frequency grids that every part of the source-filter engine shares."""

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import HOP, SAMPLE_RATE

Array = NDArray[np.float32]

STEP = HOP // 2
"""Samples between two analysis instants: 5 ms, two to a frame."""

FFT = 1024
BINS = FFT // 2 + 1
FREQUENCIES: NDArray[np.float32] = np.linspace(0, SAMPLE_RATE / 2, BINS, dtype=np.float32)
"""Centre of each bin in Hz."""

POWER_FLOOR = 1e-10
"""Power density under which nothing is heard; full-scale white noise has 1."""


def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return mel values of frequencies in Hz (O'Shaughnessy 1987)."""
    return 1127.0 * np.log1p(hertz / 700.0)


def mel_edges(count: int) -> NDArray[np.float64]:
    """Return the borders in Hz of `count` overlapping bands, 60 Hz to 12 kHz, (count + 2,)."""
    return 700.0 * np.expm1(
        np.linspace(mel(np.array(60.0)), mel(np.array(12_000.0)), count + 2) / 1127.0
    )


def mel_bank(edges: NDArray[np.float64]) -> Array:
    """Return what averages bins to the triangular bands between `edges`, (BINS, bands)."""
    bins = np.arange(BINS) * (SAMPLE_RATE / 2 / (BINS - 1))
    width = np.maximum(np.diff(edges), SAMPLE_RATE / 1024)
    rising = 1 - (edges[1:-1] - bins[:, None]) / width[:-1]
    falling = 1 - (bins[:, None] - edges[1:-1]) / width[1:]
    bank = np.maximum(np.minimum(rising, falling), 0.0)
    return np.asarray(bank / bank.sum(axis=0), dtype=np.float32)


def at_bins(envelope: Array, positions: Array) -> Array:
    """Read rows of an envelope at fractional bin positions, linearly, held at both ends.

    envelope: (rows, BINS). positions: (rows, n) or (n,). Returns (rows, n).
    """
    clipped = np.clip(positions, 0, BINS - 1.001)
    low = clipped.astype(np.intp)
    part = (clipped - low).astype(np.float32)
    if positions.ndim == 1:
        below, above = envelope[:, low], envelope[:, low + 1]
    else:
        below = np.take_along_axis(envelope, low, axis=1)
        above = np.take_along_axis(envelope, low + 1, axis=1)
    return np.asarray(below + part * (above - below), dtype=np.float32)
