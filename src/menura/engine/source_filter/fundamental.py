"""Where a band of the waveform oscillates at the band's own middle: a fundamental, however weak.

A bank of complex filters, an octave in twelve parts, tells by the speed of its phase which
frequency each band follows. Where that crosses the middles of the bands, something oscillates by
itself (after Morise 2017, "Harvest", which counts zero crossings). Creak and breath whose periods
do not resemble each other keep such a frequency, and it is what is heard as their pitch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from menura.engine.source_filter.spectrum import Array

RATE = 8_000
PAST, FUTURE = 288, 110
"""Samples at RATE that an instant's filters reach to either side."""
FUNDAMENTALS = 3
"""Crossings that are told, the strongest ones."""
BANDS = 42

_PER_OCTAVE = 12
_MIDDLES = (58.0 * 2.0 ** (np.arange(BANDS) / _PER_OCTAVE)).astype(np.float32)
_LOGS = np.log2(_MIDDLES)
_TAPS = np.arange(PAST + FUTURE + 1)
_PERIODS = 2.0
"""Periods of a band's middle that its window reaches to either side, as far as there are any."""


def _bank() -> Array:
    """Return what turns a stretch into every band and its derivative, (taps, 4 * bands)."""
    time = np.arange(-PAST, FUTURE + 1) / RATE
    parts = []
    for middle in _MIDDLES:
        left = min(_PERIODS / middle, PAST / RATE)
        right = min(_PERIODS / middle, FUTURE / RATE)
        slope = np.where(time < 0, -1.0 / left, 1.0 / right)
        inside = np.abs(time * slope) < 1.0
        window = np.where(inside, 0.5 + 0.5 * np.cos(np.pi * time * slope), 0.0)
        fall = np.where(inside, 0.5 * np.pi * slope * np.sin(np.pi * time * slope), 0.0)
        turn = np.exp(-2j * np.pi * middle * time) / window.sum()
        parts.append([(window * turn).real, (window * turn).imag])
        parts[-1] += [(fall * turn).real, (fall * turn).imag]
    return np.stack(parts, axis=2).transpose(1, 0, 2).reshape(len(time), -1).astype(np.float32)


_BANK = _bank()


@dataclass(frozen=True, slots=True)
class Fundamentals:
    """What the bands of consecutive instants follow.

    logs: log2 Hz of the strongest crossings, (n, FUNDAMENTALS). valid: whether there is such a
    crossing, (n, FUNDAMENTALS). away: octaves by which each band's frequency lies over its middle,
    -0.5 to 0.5, (n, BANDS). level: log10 of each band's amplitude over the strongest band's,
    -3 to 0, (n, BANDS).
    """

    logs: Array
    valid: NDArray[np.bool_]
    away: Array
    level: Array


def fundamentals(signal: Array, instants: int, step: int) -> Fundamentals:
    """Return the fundamentals of instants `step` samples apart.

    signal: at RATE, from PAST before the first instant to FUTURE after the last.
    """
    frames = signal[step * np.arange(instants)[:, None] + _TAPS]
    real, imag, real_fall, imag_fall = (frames @ _BANK).reshape(instants, 4, -1).transpose(1, 0, 2)
    power = real * real + imag * imag + np.float32(1e-14)
    turning = (real * imag_fall - imag * real_fall) / power
    hertz = np.maximum(_MIDDLES + turning / (2 * np.pi), 20.0)
    away = np.clip(np.log2(hertz) - _LOGS, -0.5, 0.5).astype(np.float32)
    amplitude = 0.5 * np.log10(power)
    level = np.maximum(amplitude - amplitude.max(axis=1, keepdims=True), -3.0).astype(np.float32)
    crossing = (away[:, :-1] > 0) & (away[:, 1:] <= 0)
    drop = np.where(crossing, away[:, :-1] - away[:, 1:], 1.0)
    part = np.where(crossing, away[:, :-1], 0.0) / drop
    strength = np.where(crossing, np.maximum(level[:, :-1], level[:, 1:]), -9.0)
    best = np.argsort(-strength, axis=1)[:, :FUNDAMENTALS]
    rows = np.arange(instants)[:, None]
    logs = (_LOGS[:-1] + part / _PER_OCTAVE)[rows, best]
    valid = strength[rows, best] > -9.0
    return Fundamentals(logs.astype(np.float32), valid, away, level)
