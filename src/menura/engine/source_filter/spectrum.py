"""The time and frequency grids that every part of the source-filter engine shares."""

from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from menura.engine.interface import HOP, SAMPLE_RATE

Array = NDArray[np.float32]
T = TypeVar("T", bound=np.generic)

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


def mel_edges(count: int, low: float = 60.0, high: float = 12_000.0) -> NDArray[np.float64]:
    """Return the borders of `count` overlapping mel-spaced bands from `low` to `high` in Hz,
    (count + 2,)."""
    return 700.0 * np.expm1(
        np.linspace(mel(np.array(low)), mel(np.array(high)), count + 2) / 1127.0
    )


def mel_bank(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what averages bins to the triangular bands between `edges` in Hz, (BINS, bands).

    No slope is narrower than a bin.
    """
    width = np.maximum(np.diff(edges), SAMPLE_RATE / FFT)
    rising = 1 - (edges[1:-1] - FREQUENCIES[:, None]) / width[:-1]
    falling = 1 - (FREQUENCIES[:, None] - edges[1:-1]) / width[1:]
    bank = np.maximum(np.minimum(rising, falling), 0.0)
    return np.asarray(bank / bank.sum(axis=0))


def band_to_bin(centres: NDArray[np.float64]) -> Array:
    """Return what interpolates bands with these centres, in Hz, at every bin, (bands, BINS).

    Values are held at both ends.
    """
    rows = [np.interp(FREQUENCIES, centres, row) for row in np.eye(len(centres))]
    return np.asarray(rows, dtype=np.float32)


def bins_between(low: float, high: float) -> slice:
    """Return the bins whose centres lie between two frequencies in Hz."""
    return slice(*np.searchsorted(FREQUENCIES, (low, high)).tolist())


def windows(samples: NDArray[T], width: int) -> NDArray[T]:
    """Return every window of `width` along the last axis, (..., n - width + 1, width), read-only.

    Not sliding_window_view, nor as_strided where it can be helped: they cost more than what a 20 ms
    block does with the windows. Raises ValueError where there are fewer samples.
    """
    shape = (*samples.shape[:-1], samples.shape[-1] - width + 1, width)
    strides = (*samples.strides, samples.strides[-1])
    if not samples.flags.c_contiguous:
        return as_strided(samples, shape, strides, writeable=False)
    shown: NDArray[T] = np.ndarray(shape, samples.dtype, samples, 0, strides)
    shown.flags.writeable = False
    return shown


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
        rows = np.arange(len(envelope))[:, None]
        below, above = envelope[rows, low], envelope[rows, low + 1]
    return np.asarray(below + part * (above - below), dtype=np.float32)
