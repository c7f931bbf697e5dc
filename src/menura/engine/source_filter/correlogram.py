"""What the waveform says about its period: normalised correlation at every lag, and its peaks.

Two windows one lag apart, centred on the instant, are compared by their cross-covariance
coefficient (after Talkin 1995, "A robust algorithm for pitch tracking"), over 20 ms and over
30 ms, in the whole band and below 700 Hz: a breathy voice keeps its period there alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import SAMPLE_RATE
from menura.engine.source_filter import fundamental
from menura.engine.source_filter.spectrum import STEP, Array, windows

FLOOR = 55.0
"""Lowest F0 in Hz."""
CEILING = 800.0
"""Highest F0 in Hz."""

REACH = 3 * STEP
"""Samples of future, at 24 kHz, that one instant's candidates need."""

_PEAKS = 6
"""Peaks of one instant's correlation that are candidates, the highest ones."""
CANDIDATES = _PEAKS + fundamental.FUNDAMENTALS
"""Candidates of one instant."""

_DECIMATION = 3
_RATE = SAMPLE_RATE // _DECIMATION
"""Hz of what is correlated."""
_HOP = STEP // _DECIMATION
"""Samples at _RATE from instant to instant."""
_TAPS, _HIGHPASS_TAPS, _LOW_TAPS = 25, 256, 33
"""Lengths of the decimator, at 24 kHz, of the filter against hum and of the one below 700 Hz."""
_SHORTEST = int(_RATE / CEILING) - 1
_LONGEST = int(np.ceil(_RATE / FLOOR)) + 1
_LAGS = np.arange(_SHORTEST, _LONGEST + 1)
"""Periods that are tried, in samples at _RATE."""
_MIDDLE = 60
"""Index of a lag of 8.6 ms: its two windows tell the level around the instant."""
_LEVELS = 3
PICTURE = 4 * len(_LAGS) + _LEVELS + 2 * fundamental.BANDS
"""Numbers that tell of one instant."""
_SHORT, _LONG = 4, 6
"""Hops per window: 20 and 30 ms; the longer one reaches into the past."""
_CENTRE = (_TAPS // 2 - REACH) // _DECIMATION
"""Where a block's first instant lies in its filtered samples, which the decimator delays."""
_KEPT = 150
"""Filtered samples before a block that its correlations need."""
_STARTS = _KEPT + _CENTRE - (_LAGS + _SHORT * _HOP) // 2 + (_SHORT - 1) * _HOP
"""Where the newest hop of the first window begins, per lag."""

_PAST = fundamental.PAST - _CENTRE
"""Samples of filtered past that the fundamentals of a block's first instant need."""
_HOPS_KEPT = 8
"""Hops before a block whose power is kept."""
_NEWEST = _HOPS_KEPT - REACH // STEP - 2
"""Hop in which the window of the level around a block's first instant begins."""

_QUIET = 1e-8
"""Power (-80 dBFS) that is added to both windows, so that silence has no pitch."""
_RELATIVE_QUIET = 3e-6
"""Power that is added, as a share of the running peak (-55 dB), so that room hum has no pitch."""
_PEAK_DECAY = 0.9995
"""Decay of the running peak per instant: 0.4 dB a second."""
_OCTAVE_COST = 0.03
"""Correlation per octave by which the shorter lag is preferred: twice a period fits as well."""
_RANK = (_OCTAVE_COST * np.log2(_LAGS[1:-1] / _SHORTEST)).astype(np.float32)
_LEAST = 0.15
"""Correlation under which a peak is no candidate."""


def _sinc(taps: int, cutoff: float, rate: int) -> Array:
    n = np.arange(taps) - taps // 2
    response = np.sinc(2 * cutoff / rate * n) * np.hamming(taps)
    return np.asarray(response / response.sum(), dtype=np.float32)


def _highpass() -> Array:
    """Impulse response of a second-order Butterworth high-pass at 80 Hz."""
    w = np.tan(np.pi * 80.0 / _RATE)
    norm = 1.0 / (1.0 + np.sqrt(2.0) * w + w * w)
    b = np.array([norm, -2.0 * norm, norm])
    a1, a2 = 2.0 * (w * w - 1.0) * norm, (1.0 - np.sqrt(2.0) * w + w * w) * norm
    response = np.zeros(_HIGHPASS_TAPS)
    for n in range(_HIGHPASS_TAPS):
        response[n] = b[n] if n < 3 else 0.0
        response[n] -= a1 * response[n - 1] if n > 0 else 0.0
        response[n] -= a2 * response[n - 2] if n > 1 else 0.0
    return response.astype(np.float32)


_DECIMATOR = _sinc(_TAPS, 3_300.0, SAMPLE_RATE)
_HUM_FILTER = _highpass()
_LOW_FILTER = _sinc(_LOW_TAPS, 700.0, _RATE)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Possible periods of consecutive instants.

    logs: log2 F0, (n, CANDIDATES). valid: whether there is such a candidate, (n, CANDIDATES).
    picture: correlation at every lag over 20 and 30 ms, in the whole band and below 700 Hz, levels,
    and what narrow bands follow, (n, PICTURE).
    """

    logs: Array
    valid: NDArray[np.bool_]
    picture: Array


class Correlogram:
    """Correlates one stream in blocks of a fixed number of instants."""

    def __init__(self, instants: int) -> None:
        self._instants = instants
        self._tail = np.zeros(_TAPS - 1, dtype=np.float32)
        self._raw = np.zeros(_HIGHPASS_TAPS - 1, dtype=np.float32)
        self._clean = np.zeros(_LOW_TAPS - 1, dtype=np.float32)
        self._signals = np.zeros((2, _KEPT), dtype=np.float32)
        # Per hop, band and lag: cross product, then sum and power of the early and the late window.
        self._hops = np.zeros((_LONG - 1, 5, 2, len(_LAGS)), dtype=np.float32)
        self._powers = np.zeros(_HOPS_KEPT, dtype=np.float32)
        self._past = np.zeros(_PAST, dtype=np.float32)
        self._peak = 0.0

    def push(self, samples: Array) -> Candidates:
        """Take the next block of 24 kHz samples, return the candidates of as many instants.

        The first instant lies `REACH` samples before the block's start.
        """
        self._filter(samples)
        (short, long), (low_short, low_long), levels = self._correlations()
        both = 0.5 * (short + low_short)
        middle = both[:, 1:-1]
        peaks = (middle > both[:, :-2]) & (middle >= both[:, 2:]) & (middle > _LEAST)
        ranked = np.where(peaks, middle - _RANK, -9.0)
        at = np.argpartition(-ranked, _PEAKS, axis=1)[:, :_PEAKS]
        rows = np.arange(self._instants)[:, None]
        valid = ranked[rows, at] > -9.0
        at += 1
        before, score, after = both[rows, at - 1], both[rows, at], both[rows, at + 1]
        curve = np.where(valid, before - 2 * score + after, -1.0)
        shift = np.where(valid, 0.5 * (before - after) / curve, 0.0)
        weak = fundamental.fundamentals(self._past, self._instants, _HOP)
        logs = np.concatenate([np.log2(_RATE / (_LAGS[at] + shift)), weak.logs], axis=1)
        valid = np.concatenate([valid, weak.valid], axis=1)
        picture = [short, long, low_short, low_long, levels, 2.0 * weak.away, weak.level]
        return Candidates(
            logs.astype(np.float32), valid, np.concatenate(picture, axis=1, dtype=np.float32)
        )

    def _filter(self, samples: Array) -> None:
        padded = np.concatenate([self._tail, samples])
        self._tail = padded[-(_TAPS - 1) :].copy()
        hops = np.mean(samples.reshape(-1, STEP) ** 2, axis=1)
        self._powers = np.concatenate([self._powers[-_HOPS_KEPT:], hops])
        raw = np.concatenate([self._raw, windows(padded, _TAPS)[::_DECIMATION] @ _DECIMATOR])
        self._raw = raw[-(_HIGHPASS_TAPS - 1) :]
        clean = np.concatenate([self._clean, np.convolve(raw, _HUM_FILTER, "valid")])
        self._clean = clean[-(_LOW_TAPS - 1) :]
        self._past = np.concatenate([self._past[-_PAST:], clean[_LOW_TAPS - 1 :]])
        fresh = np.stack([clean[_LOW_TAPS - 1 :], np.convolve(clean, _LOW_FILTER, "valid")])
        self._signals = np.concatenate([self._signals[:, -_KEPT:], fresh], axis=1)

    def _correlations(self) -> tuple[Array, Array, Array]:
        """Return coefficients of the whole and of the low band, and levels.

        Coefficients per window, (2, instants, lags). Levels: log10 of the power under the running
        peak, of the low band's share of it, and of all up to 12 kHz over it, (instants, 3).
        """
        n = self._instants
        hops = self._sums()
        short = hops[2 : 2 + n] + hops[3 : 3 + n] + hops[4 : 4 + n] + hops[5 : 5 + n]
        long = short + hops[:n] + hops[1 : 1 + n]
        power = short[:, 3:, :, _MIDDLE].sum(axis=1).T / (2 * _SHORT * _HOP)
        self._peak = max(self._peak * _PEAK_DECAY**n, float(power[0].max()))
        quiet = _QUIET + _RELATIVE_QUIET * self._peak
        level = np.log10((power[0] + quiet) / (self._peak + quiet))
        share = np.log10((power[1] + quiet) / (power[0] + quiet))
        around = sum(self._powers[k : k + n] for k in range(_NEWEST, _NEWEST + 4)) / np.float32(4)
        hiss = np.log10((around + quiet) / (power[0] + quiet))
        whole, low = np.stack(
            [
                _coefficient(short, _SHORT * _HOP, quiet),
                _coefficient(long, _LONG * _HOP, quiet),
            ],
            axis=1,
        ).transpose(2, 1, 0, 3)
        return whole, low, np.stack([level, share, hiss], axis=1)

    def _sums(self) -> Array:
        """Return what the windows are summed of, per hop from the oldest one that is needed:
        (_LONG - 1 + instants, 5, bands, lags), as `_coefficient` takes it."""
        n = self._instants
        hops = np.empty((_LONG - 1 + n, 5, 2, len(_LAGS)), dtype=np.float32)
        hops[: _LONG - 1] = self._hops
        self._hops = hops[n:]
        fresh = hops[_LONG - 1 :]
        blocks = windows(self._signals, n * _HOP).reshape(2, -1, n, _HOP)
        for parity in (0, 1):
            # Every second lag begins one sample earlier: slices do, and nothing is copied.
            first, last = _STARTS[parity], _STARTS[parity::2][-1]
            early = blocks[:, last : first + 1][:, ::-1]
            late = blocks[:, first + _LAGS[parity] :][:, : first + 1 - last]
            fresh[:, 0, :, parity::2] = np.einsum("blhk,blhk->hbl", early, late)
        exact = self._signals.astype(np.float64)
        sums = np.zeros((4, exact.shape[1] + 1))
        np.cumsum(np.concatenate([exact, exact * exact]), axis=1, out=sums[:, 1:])
        over_hop = (sums[:, _HOP:] - sums[:, :-_HOP]).astype(np.float32).reshape(2, 2, -1)
        at = _STARTS + _HOP * np.arange(n)[:, None]
        fresh[:, 1::2] = over_hop.take(at, axis=2).transpose(2, 0, 1, 3)
        fresh[:, 2::2] = over_hop.take(at + _LAGS, axis=2).transpose(2, 0, 1, 3)
        return hops


def _coefficient(sums: Array, width: int, quiet: float) -> Array:
    """Return the cross-covariance coefficients of pairs of windows, (instants, bands, lags).

    sums: over the windows, of what is kept per hop, (instants, 5, bands, lags). width: samples of a
    window. quiet: power that is added to both.
    """
    cross, early, late, early_power, late_power = (sums[:, place] for place in range(5))
    floor = width * quiet
    first = np.maximum(early_power - early * early / width, 0.0) + floor
    second = np.maximum(late_power - late * late / width, 0.0) + floor
    return np.asarray((cross - early * late / width) / np.sqrt(first * second), dtype=np.float32)
